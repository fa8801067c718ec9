"""transformers' Whisper of the size of whisper-tiny, from its configuration: a training step and a transcription."""

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

torch.manual_seed(0)
config = WhisperConfig(d_model=384, encoder_layers=4, decoder_layers=4, encoder_attention_heads=6,
                       decoder_attention_heads=6, encoder_ffn_dim=1536, decoder_ffn_dim=1536)  # fmt: skip
model = WhisperForConditionalGeneration(config).cuda()
sound = torch.randn(2, 80, 3000, device="cuda")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
loss = model(input_features=sound, labels=torch.randint(0, 50000, (2, 20), device="cuda")).loss
loss.backward()
optimizer.step()
print("loss", loss.item())
model.eval()
print(tuple(model.generate(sound, max_new_tokens=20).shape))
