"""Send one answer: python examples/send_answer.py [BROKER TOPIC]"""

import json
import sys
from datetime import UTC, datetime

from confluent_kafka import Producer

broker, topic = sys.argv[1:] or ("127.0.0.1:9092", "interactions")
producer = Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random", "log_level": 2})
event = {"type": "quiz_complete", "user_id": "learner-1", "topic_id": "fractions", "item_id": "fractions-07",
         "correct": True, "duration_seconds": 21.5, "timestamp": datetime.now(UTC).isoformat()}  # fmt: skip
producer.produce(topic, key=event["user_id"], value=json.dumps(event))
if producer.flush(10):
    sys.exit(f"no Kafka broker took it within 10 s at {broker!r}")
