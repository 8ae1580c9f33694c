"""What biasbench itself offers, through the same hooks as anyone's plugin."""

from __future__ import annotations

from biasbench.hookspecs import Entry, hookimpl

_HERE = "biasbench.builtin"


@hookimpl
def biasbench_datasets() -> list[Entry]:
    """Our data sets."""
    return [
        Entry("coco", f"{_HERE}.datasets.coco:Coco", "COCO objects, gender from captions (Wang et al. 2019)"),
        Entry(
            "imsitu", f"{_HERE}.datasets.imsitu:Imsitu", "imSitu activities, gender from the agent (Wang et al. 2019)"
        ),
        Entry("imdb", f"{_HERE}.datasets.imdb:Imdb", "faces of actors with age and gender (Alvi et al. 2018)"),
        Entry("wiki", f"{_HERE}.datasets.wiki:Wiki", "faces from Wikipedia with age and gender"),
        Entry("laofiw", f"{_HERE}.datasets.laofiw:Laofiw", "faces with ancestral origin (Alvi et al. 2018)"),
        Entry("fairface", f"{_HERE}.datasets.fairface:Fairface", "faces with age group, gender and ancestry"),
        Entry("aflw", f"{_HERE}.datasets.aflw:Aflw", "AFLW and AFLW2000-3D: head pose in five bins"),
        Entry("faces", f"{_HERE}.datasets.faces:Faces", "drawn faces with planted, known correlations"),
        Entry("utkface", f"{_HERE}.datasets.utkface:Utkface", "faces with age, gender and ancestry in file names"),
        Entry("scenes", f"{_HERE}.datasets.scenes:Scenes", "generated scenes with planted, known bias"),
    ]


@hookimpl
def biasbench_backbones() -> list[Entry]:
    """Our backbones."""
    return [
        Entry("timm", f"{_HERE}.backbones.timm:TimmBackbone", "any timm model, by its timm name", any_name=True),
        Entry(
            "vgg-m", f"{_HERE}.backbones.vgg_m:VggMBackbone",
            "VGG-M (Chatfield et al. 2014); weights from a MatConvNet or PyTorch file",
        ),
    ]  # fmt: skip


@hookimpl
def biasbench_methods() -> list[Entry]:
    """Our mitigation methods."""
    adversary = f"{_HERE}.methods.adversary:Adversary"
    redact = f"{_HERE}.methods.redact"
    blackout = f"{redact}:Blackout"
    person = {"region": "person"}
    alpha = f"{_HERE}.methods.resample:Alpha"
    return [
        Entry("original", f"{_HERE}.methods.original:Original", "the plain model, nothing mitigated"),
        Entry("adv", adversary, "adversarial removal at a tap"),
        Entry("adv-conv4", adversary, "adversarial removal at conv4", {"at": "conv4"}),
        Entry("adv-conv5", adversary, "adversarial removal at conv5", {"at": "conv5"}),
        Entry("adv-image", f"{_HERE}.methods.image_adversary:ImageAdversary", "adversarial mask over the image"),
        Entry("alpha", alpha, "training rows with label-gender ratios of at most alpha"),
        Entry("alpha-{ratio}", alpha, "the same: alpha-1, alpha-2, alpha-1.5, ..."),
        Entry("balance", f"{_HERE}.methods.resample:Balance", "batches with equal shares of each group"),
        Entry("blackout", blackout, "a region of each picture painted black"),
        Entry("blackout-segm", blackout, "people painted black, by segmentation", person),
        Entry("blackout-face", blackout, "faces painted black", {"region": "face"}),
        Entry("blur", f"{redact}:Blur", "a region of each picture blurred"),
        Entry("blur-segm", f"{redact}:Blur", "people blurred, by segmentation", person),
        Entry("edges", f"{redact}:Edges", "a region of each picture as its edges"),
        Entry("edges-segm", f"{redact}:Edges", "people as edges, by segmentation", person),
        Entry("gray", f"{redact}:Gray", "a region of each picture without colour"),
        Entry("gray-segm", f"{redact}:Gray", "people without colour, by segmentation", person),
        Entry("crf", f"{_HERE}.methods.crf:Crf", "labels and attribute predicted jointly by a random field"),
        Entry("rba", f"{_HERE}.methods.rba:Rba", "each label keeps its training share of groups; needs crf"),
        Entry("jlu", f"{_HERE}.methods.jlu:JointUnlearning", "joint learning and unlearning of spurious attributes"),
        Entry("noise", f"{_HERE}.methods.noise:Noise", "Gaussian noise on the trained model's embedding"),
        Entry("blackout-box", blackout, "people painted black, by box", {"region": "person-box-union"}),
    ]


@hookimpl
def biasbench_metrics() -> list[Entry]:
    """Our metrics."""
    return [
        Entry("accuracy", f"{_HERE}.metrics.accuracy:Accuracy", "mAP and macro F1"),
        Entry(
            "amplification",
            f"{_HERE}.metrics.amplification:Amplification",
            "bias amplification by other definitions, gaps between groups, worst group",
        ),
        Entry("attackers", f"{_HERE}.metrics.attackers:Attackers", "model leakage by weaker and stronger attackers"),
        Entry(
            "classes", f"{_HERE}.metrics.classes:Classes", "accuracy by group, divergence of the groups' predictions"
        ),
        Entry("embedding", f"{_HERE}.metrics.embedding:Embedding", "the attribute from the frozen embedding"),
        Entry("leakage", f"{_HERE}.metrics.leakage:Leakage", "dataset and model leakage, bias amplification"),
    ]
