"""transformers' Trainer: BERT learns to classify sentences in fp16, and is evaluated after each epoch."""

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

torch.manual_seed(0)
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
model = BertForSequenceClassification(BertConfig(vocab_size=500, num_labels=3, **SHAPE))
rows = [{"input_ids": torch.randint(0, 500, (32,)), "attention_mask": torch.ones(32, dtype=torch.long), "labels": n % 3}
        for n in range(80)]  # fmt: skip


def metrics(prediction):
    """Print the labels that came back from the card, and return the accuracy."""
    print("labels", prediction.label_ids[:6].tolist())
    return {"accuracy": float((np.argmax(prediction.predictions, -1) == prediction.label_ids).mean())}


settings = TrainingArguments("/tmp/bert_trainer", per_device_train_batch_size=8, num_train_epochs=2, fp16=True,
                             eval_strategy="epoch", save_strategy="no", logging_steps=5, report_to=[])  # fmt: skip
trainer = Trainer(model, settings, train_dataset=rows, eval_dataset=rows[:24], compute_metrics=metrics)
trainer.train()
print(trainer.evaluate())
