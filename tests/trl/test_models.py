"""The trainers with models that aren't a plain text model in full: adapters, processors, experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer, RLOOTrainer

from trl_integration import ToolGRPOTrainer, ToolRLOOTrainer

from .helpers import NAME, add, tokenizer
from .test_drop_in import entry_of, ones, trainer_for
from .test_rloo import trainer_for as rloo_trainer_for
from .test_training import scored, script

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("make", [trainer_for, rloo_trainer_for], ids=["grpo", "rloo"])
def test_an_adapter_is_trained_and_the_base_stays(tmp_path: Path, make: Any) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: adapters can't be tried")
    trainer = make(
        tmp_path,
        script,
        settings={"beta": 0.1, "max_steps": 2, "num_iterations": 2},
        tools=[add],
        reward_funcs=ones,
        peft_config=peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]),
    )
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert [r.transcript.turns for r in trainer.rollout.last] == [2] * 4
    assert "kl" in entry_of(trainer)


def processor_and_model() -> tuple[Any, Any]:
    """A processor around the tiny tokenizer, with a vision-language model of one layer each."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    plain = tokenizer(NAME)
    images = CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    processor = LlavaProcessor(
        images, plain, patch_size=4, vision_feature_select_strategy="default", chat_template=plain.chat_template
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    text = LlamaConfig(**sizes(plain))
    return processor, LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))


def sizes(plain: Any) -> dict[str, Any]:
    """Of a text model of one layer."""
    return {
        "vocab_size": len(plain),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": plain.pad_token_id,
        "eos_token_id": plain.eos_token_id,
        "bos_token_id": None,
    }


@pytest.mark.parametrize("make", [trainer_for, rloo_trainer_for], ids=["grpo", "rloo"])
def test_a_vision_language_model_uses_text_tools(tmp_path: Path, make: Any) -> None:
    processor, model = processor_and_model()
    trainer = make(
        tmp_path,
        script,
        tools=[add],
        reward_funcs=ones,
        model=model,
        processing_class=processor,
        parser=None,  # it has to be found through the processor
    )
    trainer.train()
    assert [r.results[0].text for r in trainer.rollout.last] == ["3"] * 4
    assert entry_of(trainer)["tools/failure_frequency"] == 0.0
    # And without a script: the model itself generates.
    trainer.rollout.backend = None
    assert scored(trainer)["completion_ids"].shape[0] == 4


def test_experts_and_an_entropy_bonus(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(**sizes(tokenizer(NAME)), num_local_experts=2))
    settings = {"router_aux_loss_coef": 0.01, "entropy_coef": 0.01}
    trainer = trainer_for(tmp_path, script, settings=settings, model=model, tools=[add], reward_funcs=ones)
    trainer.train()
    entry = entry_of(trainer)
    assert {"aux_loss", "entropy_coef", "policy_loss"} <= set(entry)
    assert torch.isfinite(torch.tensor(entry["loss"]))


def test_what_is_stock_stays_stock() -> None:
    """Both are the trainers that TRL documents, with the same arguments behind ours."""
    assert issubclass(ToolGRPOTrainer, GRPOTrainer)
    assert issubclass(ToolRLOOTrainer, RLOOTrainer)
