"""pytorch-tabnet: a classifier of tables with early stopping."""

import numpy as np
from pytorch_tabnet.tab_model import TabNetClassifier

numbers = np.random.default_rng(0)
x, y = numbers.normal(size=(512, 20)).astype(np.float32), numbers.integers(0, 3, 512)
model = TabNetClassifier(seed=0, device_name="cuda", verbose=1)
model.fit(x, y, eval_set=[(x[:128], y[:128])], max_epochs=3, patience=2, batch_size=128, virtual_batch_size=64)
print("predicted", model.predict(x[:8]).tolist())
