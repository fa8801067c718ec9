"""diffusers: a UNet learns to remove noise with autocast and a GradScaler, and then samples."""

import torch
from diffusers import DDPMScheduler, UNet2DModel

torch.manual_seed(0)
model = UNet2DModel(sample_size=32, block_out_channels=(64, 128, 128), layers_per_block=1, norm_num_groups=16,
                    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
                    up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")).cuda()  # fmt: skip
noise_of = DDPMScheduler(num_train_timesteps=1000)
optimizer, scaler = torch.optim.Adam(model.parameters(), lr=1e-4), torch.amp.GradScaler()
for _ in range(4):
    images, noise = torch.randn(8, 3, 32, 32, device="cuda"), torch.randn(8, 3, 32, 32, device="cuda")
    times = torch.randint(0, 1000, (8,), device="cuda")
    with torch.autocast("cuda", torch.float16):
        loss = torch.nn.functional.mse_loss(model(noise_of.add_noise(images, noise, times), times).sample, noise)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    print("loss", loss.item(), "scale", scaler.get_scale(), "states", len(optimizer.state))
noise_of.set_timesteps(8)
sample = torch.randn(4, 3, 32, 32, device="cuda")
with torch.no_grad():
    for time in noise_of.timesteps:
        sample = noise_of.step(model(sample, time).sample, time, sample).prev_sample
print("sampled", tuple(sample.cpu().shape))
