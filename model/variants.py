"""What the variants of the comparison are called, what each begins with and how far it is trained."""

STUDENTS = ("lexical", "acoustic")

UNIMODAL, MULTIMODAL, DISTILLED = "unimodal", "multimodal", "distilled"
OURS, NO_REGULARISATION, NO_FINETUNE = "ours", "ours_no_regularisation", "ours_no_finetune"
NO_PRETRAIN_NO_FINETUNE = "ours_no_pretrain_no_finetune"
NO_PRETRAIN, OTHER_PRETRAIN = "ours_no_pretrain", "ours_other_pretrain"
LINEAR, LINEAR_MULTIMODAL, MAJORITY = "linear", "linear_multimodal", "majority"

# Variants that are no network: their predictions are the same under every settings.
SIMPLE = (LINEAR, LINEAR_MULTIMODAL, MAJORITY)

# For each variant of ours: what stage 3 begins with, and whether stage 4 follows.
STARTS = {
    OURS: "pretrained",
    NO_REGULARISATION: "pretrained",
    NO_FINETUNE: "pretrained",
    NO_PRETRAIN: "scratch",
    NO_PRETRAIN_NO_FINETUNE: "scratch",
    OTHER_PRETRAIN: "other",
}
FINETUNED = (OURS, NO_REGULARISATION, NO_PRETRAIN, OTHER_PRETRAIN)
