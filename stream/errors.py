"""
What can go wrong, one class for each reaction.

    StreamError
    ├── UserError            the command or a setting is wrong: one sentence, exit code 2
    │   ├── BadAnswersFile   a file of past answers, or an OULAD folder, that cannot be read
    │   ├── BadTopics        topics that do not fit the settings
    │   └── BrokerAway       no broker, or an address that is none: exit code 1, as it may come back by itself
    ├── ArtifactError        a model that must not serve: it is kept out, the old one goes on
    ├── StoreError           the store of models cannot be listed or written: that is not done, and all else goes on
    ├── InferenceError       a model that failed on a batch: the fallback answers
    └── FatalError           the process must stop before it commits; the supervisor restarts it
        ├── DeliveryError    Kafka did not take what we sent
        ├── SleptError       the process stood still for longer than its session
        ├── MembershipError  another worker runs under our STREAM_INSTANCE_ID
        ├── TransactionError a transaction could be neither committed nor aborted
        ├── ControlError     the control topics could not be read whole
        ├── SourceError      foreign topics could not be read, or what they hold not be written
        └── StateError       stored state that does not fit its source or its format

Events that cannot be read are no exceptions of ours: they are `schemas.InvalidEvent`, and become dead letters.
"""


class StreamError(Exception):
    """Anything that this program says of itself."""


class UserError(StreamError):
    """Something that the person at the keyboard can mend; the message says how."""


class BadAnswersFile(UserError):
    """Past events are not as `docs/answers.md` or `docs/oulad.md` describes; the message names line and column."""


class BadTopics(UserError):
    """Topics exist with settings that the worker cannot work with; the message says what to change."""


class BrokerAway(UserError):
    """No Kafka broker answers at STREAM_BROKER. Start it, or mend the address; `stream doctor` says more."""


class ArtifactError(StreamError):
    """A model was refused: its digest, operators, inputs or golden outputs are wrong. The old model serves."""


class StoreError(StreamError):
    """The store of models, or the replay buffer, could not be read or written. What serves goes on; mend the place."""


class InferenceError(StreamError):
    """The model raised or gave numbers that are not finite. That batch is answered by the fallback, and marked so."""


class FatalError(StreamError):
    """Going on could lose or double an event: the process ends at once, without committing, and is to be restarted."""


class DeliveryError(FatalError):
    """Kafka refused or did not confirm a message in time. Check the broker, the topic's size limit and the ACLs."""


class SleptError(FatalError):
    """The process stood still for so long that its partitions may be another worker's: it must not be heard."""


class MembershipError(FatalError):
    """The group no longer knows this worker under its STREAM_INSTANCE_ID. Give each worker an id of its own."""


class TransactionError(FatalError):
    """A transaction could be neither committed nor aborted, or its id is used by another. Check broker and ids."""


class ControlError(FatalError):
    """The control topics could not be read up to their end before the first event. Check the broker and the ACLs."""


class SourceError(FatalError):
    """The topics of STREAM_SOURCES could not be read, or their events not be written. Check the broker and the ACLs."""


class StateError(FatalError):
    """A changelog record has an unknown format, or a source topic was made anew under existing state."""
