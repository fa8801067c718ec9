"""torch_geometric: a GCN and a GAT learn to classify graphs in batches that are made on the card."""

import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GCNConv, global_mean_pool
from torch_geometric.utils import to_dense_batch

torch.manual_seed(0)


class Net(nn.Module):
    """Two layers of message passing, and a mean over each graph."""

    def __init__(self, layer, **options):
        super().__init__()
        self.first, self.second, self.last = layer(16, 32, **options), layer(32, 32, **options), nn.Linear(32, 3)

    def forward(self, data):
        x = self.second(self.first(data.x, data.edge_index).relu(), data.edge_index)
        return self.last(global_mean_pool(x, data.batch))


def graph(nodes):
    """Make a random graph."""
    edges = torch.randint(0, nodes, (2, 4 * nodes))
    return Data(x=torch.randn(nodes, 16), edge_index=edges, y=torch.tensor([nodes % 3]))


graphs = [graph(10 + n) for n in range(8)]
for net in (Net(GCNConv).cuda(), Net(GATConv, heads=1).cuda()):
    optimizer = torch.optim.Adam(net.parameters())
    for _ in range(3):
        batch = Batch.from_data_list([one.to("cuda") for one in graphs])
        out = net(batch)
        loss = nn.functional.cross_entropy(out, batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(tuple(out.shape), "graphs", batch.num_graphs, "labels", batch.y.tolist(), "loss", loss.item())
dense, mask = to_dense_batch(batch.x, batch.batch)
print("dense", tuple(dense.shape), "nodes", int(mask.sum()))
