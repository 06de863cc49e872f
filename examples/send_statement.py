"""Send one xAPI statement: python examples/send_statement.py [BROKER TOPIC]"""

import json
import sys
from datetime import UTC, datetime

from confluent_kafka import Producer

broker, topic = sys.argv[1:] or ("127.0.0.1:9092", "lms.xapi")
statement = {"actor": {"account": {"homePage": "https://lms.example", "name": "learner-1"}},
             "verb": {"id": "http://adlnet.gov/expapi/verbs/answered"}, "object": {"id": "https://lms.example/q7"},
             "result": {"success": True, "duration": "PT9S"}, "timestamp": datetime.now(UTC).isoformat()}  # fmt: skip
producer = Producer({"bootstrap.servers": broker, "log_level": 2})
producer.produce(topic, key="learner-1", value=json.dumps(statement))
if producer.flush(10):
    sys.exit(f"no Kafka broker took it within 10 s at {broker!r}")
