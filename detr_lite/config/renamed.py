"""Settings that earlier versions had under another name: they are refused with the name that they have now."""

RENAMED = {
    "data.workers": "data.num_workers",
    "model.query_overlap": "model.query_dedup_iou",
    "model.relate_queries": "model.relation_bias",
    "model.denoising_negatives": "model.contrastive_denoising",
    "model.edges": "model.box_head",
    "loss.label": "loss.class_weight",
    "loss.label_cost": "loss.class_cost",
    "loss.background": "loss.no_object_weight",
    "loss.edges": "loss.fdr_weight",
    "loss.tokens_per_object": "loss.one_to_many_topk",
    "optim.flat": "optim.lr_hold",
    "optim.clip": "optim.max_grad_norm",
    "optim.accumulate": "optim.accumulate_grad_batches",
    "optim.backbone_factor": "optim.backbone_lr_factor",
    "optim.ema": "optim.ema_decay",
    "optim.ema_ramp_steps": "optim.ema_tau",
    "trainer.evaluations": "trainer.num_evaluations",
    "trainer.attention_epochs": "trainer.attention_every_n_epochs",
    "self_test": "overfit_check",
}
"""Old name -> new name."""

RENAMED_VALUES = {"model.box_head": {"numbers": "regression", "distributions": "fdr"}}
"""New name of a setting -> old value -> new value."""


def renaming_of(name: str) -> str | None:
    """What replaces an old name, for an error message; None for a name that was never in use."""
    if name not in RENAMED:
        return None
    new = RENAMED[name]
    values = ", ".join(f"{after} for {before}" for before, after in RENAMED_VALUES.get(new, {}).items())
    return new + (f" (values: {values})" if values else "")
