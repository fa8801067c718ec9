"""torchrl: a DQN of its modules with a buffer on the card."""

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import MLP, QValueActor
from torchrl.objectives import DQNLoss, SoftUpdate

torch.manual_seed(0)
network = MLP(in_features=4, out_features=2, num_cells=[64, 64])
actor = QValueActor(network, in_keys=["observation"], action_space="one-hot").cuda()
loss_of = DQNLoss(actor, action_space="one-hot", delay_value=True)
target = SoftUpdate(loss_of, eps=0.95)
buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(512, device="cuda"), batch_size=32)
optimizer = torch.optim.Adam(loss_of.parameters())
for _ in range(8):
    seen = TensorDict({"observation": torch.randn(32, 4, device="cuda")}, [32])
    with torch.no_grad():
        actor(seen)
    done = torch.rand(32, 1, device="cuda") < 0.1
    after = {"observation": torch.randn(32, 4, device="cuda"), "reward": torch.ones(32, 1, device="cuda"), "done": done,
             "terminated": done}  # fmt: skip
    buffer.extend(seen.select("observation", "action").set("next", TensorDict(after, [32])))
    batch = buffer.sample()
    loss = loss_of(batch)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    target.step()
print("buffer", len(buffer), "loss", loss.item(), "done", int(done.sum()))
