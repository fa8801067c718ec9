"""transformers' generate: GPT-2 writes sixteen tokens greedily, sampled and with beams, from padded prompts."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=1000, n_embd=128, n_layer=3, n_head=4, eos_token_id=999, bos_token_id=998,
                                   pad_token_id=997)).cuda().eval()  # fmt: skip
prompt = torch.randint(0, 900, (2, 12), device="cuda")
mask = torch.ones_like(prompt)
mask[1, :4] = 0
for how in ({"do_sample": False}, {"do_sample": True, "top_k": 20}, {"num_beams": 3}):
    tokens = model.generate(prompt, attention_mask=mask, max_new_tokens=16, min_new_tokens=16, **how)
    print(how, tuple(tokens.shape), "prompt kept:", bool((tokens[:, :12] == prompt).all()))
