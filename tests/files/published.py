"""Published files of answers as the tests write them: the real headers, made-up rows, as odd as the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ASSISTMENTS_2009 = (
    "order_id,assignment_id,user_id,assistment_id,problem_id,original,correct,attempt_count,ms_first_response,"
    "tutor_mode,answer_type,sequence_id,student_class_id,position,type,base_sequence_id,skill_id,skill_name,"
    "teacher_id,school_id,hint_count,hint_total,overlap_time,template_id,answer_id,answer_text,first_action,"
    "bottom_hint,opportunity,opportunity_original"
)
ASSISTMENTS_2012 = (
    "problem_log_id,skill,problem_id,user_id,assignment_id,assistment_id,start_time,end_time,problem_type,original,"
    "correct,bottom_hint,hint_count,actions,attempt_count,ms_first_response,tutor_mode,sequence_id,student_class_id,"
    "position,type,base_sequence_id,skill_id,teacher_id,school_id,overlap_time,template_id,answer_id,answer_text,"
    "first_action,problemlogid,Average_confidence(FRUSTRATED),Average_confidence(CONFUSED),"
    "Average_confidence(CONCENTRATING),Average_confidence(BORED)"
)
ASSISTMENTS_2015 = "user_id,log_id,sequence_id,correct"
ASSISTMENTS_2017 = (
    "studentId,MiddleSchoolId,InferredGender,SY ASSISTments Usage,AveKnow,AveCarelessness,AveCorrect,NumActions,"
    "action_num,skill,problemId,assignmentId,assistmentId,startTime,endTime,timeTaken,correct,original,hint,hintCount,"
    "hintTotal,scaffold,bottomHint,attemptCount,problemType,frIsHelpRequest,Ln-1,Ln,MCAS,Enrolled,Selective,isSTEM"
)
EDNET_KT1 = "timestamp,solving_id,question_id,user_answer,elapsed_time"
EDNET_KT3 = "timestamp,action_type,item_id,source,user_answer,platform"
EDNET_KT4 = "timestamp,action_type,item_id,cursor_time,source,user_answer,platform"
EDNET_QUESTIONS = "question_id,bundle_id,explanation_id,correct_answer,part,tags,deployed_at"
RIIID = (
    "row_id,timestamp,user_id,content_id,content_type_id,task_container_id,user_answer,answered_correctly,"
    "prior_question_elapsed_time,prior_question_had_explanation"
)
RIIID_QUESTIONS = "question_id,bundle_id,correct_answer,part,tags"
JUNYI = (
    "user_id,exercise,problem_type,problem_number,topic_mode,suggested,review_mode,time_done,time_taken,"
    "time_taken_attempts,correct,count_attempts,hint_used,count_hints,hint_time_taken_list,earned_proficiency,"
    "points_earned"
)
JUNYI_2019 = (
    "timestamp_TW,uuid,ucid,upid,problem_number,exercise_problem_repeat_session,is_correct,total_sec_taken,"
    "total_attempt_cnt,used_hint_cnt,is_hint_used,is_downgrade,is_upgrade,level"
)
KDD_CUP = (
    "Row\tAnon Student Id\tProblem Hierarchy\tProblem Name\tProblem View\tStep Name\tStep Start Time\t"
    "First Transaction Time\tCorrect Transaction Time\tStep End Time\tStep Duration (sec)\t"
    "Correct Step Duration (sec)\tError Step Duration (sec)\tCorrect First Attempt\tIncorrects\tHints\tCorrects\t"
    "KC(SubSkills)\tOpportunity(SubSkills)\tKC(KTracedSkills)\tOpportunity(KTracedSkills)"
)
DATASHOP_STEPS = (
    "Row\tSample\tAnon Student Id\tProblem Hierarchy\tProblem Name\tProblem View\tStep Name\tStep Start Time\t"
    "First Transaction Time\tCorrect Transaction Time\tStep End Time\tStep Duration (sec)\t"
    "Correct Step Duration (sec)\tError Step Duration (sec)\tFirst Attempt\tIncorrects\tHints\tCorrects\tCondition\t"
    "KC (Single-KC)\tOpportunity (Single-KC)\tKC (Circles)\tOpportunity (Circles)"
)
DATASHOP = (
    "Row\tSample Name\tTransaction Id\tAnon Student Id\tSession Id\tTime\tTime Zone\tDuration (sec)\t"
    "Student Response Type\tStudent Response Subtype\tTutor Response Type\tTutor Response Subtype\tLevel (Unit)\t"
    "Problem Name\tProblem View\tProblem Start Time\tStep Name\tAttempt At Step\tIs Last Attempt\tOutcome\tSelection\t"
    "Action\tInput\tFeedback Text\tFeedback Classification\tHelp Level\tTotal Num Hints\tKC (Circles)\t"
    "KC Category (Circles)\tKC (Circles)\tKC Category (Circles)\tSchool\tClass"
)


def lines(header: str, *rows: Mapping[str, object]) -> str:
    """Return a table: rows as values of some columns, the others empty; a name that stands twice takes a list."""
    separator = "\t" if "\t" in header else ","
    names = header.split(separator)
    written = [header]
    for row in rows:
        unknown = row.keys() - set(names)
        assert not unknown, unknown
        left = {name: list(value) if isinstance(value, list) else [value] for name, value in row.items()}
        written.append(separator.join(str(left[name].pop(0)) if left.get(name) else "" for name in names))
    return "".join(f"{line}\r\n" for line in written)


def write(path: Path, header: str, *rows: Mapping[str, object], encoding: str = "utf-8") -> Path:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(header, *rows).encode(encoding))
    return path
