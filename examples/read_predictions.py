"""Print predictions, each once: python examples/read_predictions.py [BROKER TOPIC...]"""

import json
import sys

from confluent_kafka import Consumer

broker, *topics = sys.argv[1:] or ("127.0.0.1:9092", *(f"predictions.{k}" for k in ("correctness", "time", "risk")))
consumer = Consumer({"bootstrap.servers": broker, "group.id": "my-app", "auto.offset.reset": "earliest"})
consumer.subscribe(topics)
seen = {}
for message in iter(lambda: consumer.poll(60), None):  # ends after a minute of silence
    prediction = {} if message.error() else json.loads(message.value())
    if prediction and seen.setdefault(prediction["prediction_id"], prediction) is prediction:
        print(message.topic(), json.dumps(prediction), flush=True)
