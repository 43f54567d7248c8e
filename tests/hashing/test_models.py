"""Estimators, networks and tokenizers: one state has one digest in every process, and another state another."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import types
import unittest.mock
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sklearn import (
    base,
    cluster,
    decomposition,
    ensemble,
    linear_model,
    model_selection,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.datasets import load_iris

from wellkept import Undigestible, digest

X, Y = load_iris(return_X_y=True)
ROOT = Path(__file__).parents[2]

ESTIMATORS: list[Callable[[], Any]] = [
    linear_model.LogisticRegression,
    partial(linear_model.SGDClassifier, random_state=0),
    partial(tree.DecisionTreeClassifier, random_state=0),
    partial(ensemble.RandomForestClassifier, 3, random_state=0),
    partial(ensemble.GradientBoostingClassifier, n_estimators=2, random_state=0),
    partial(ensemble.HistGradientBoostingClassifier, max_iter=2, random_state=0),
    partial(neighbors.KNeighborsClassifier, algorithm="kd_tree"),
    partial(cluster.KMeans, 3, random_state=0, n_init=1),
    partial(decomposition.PCA, 2),
    svm.SVC,
    lambda: pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
    lambda: ensemble.VotingClassifier([("a", svm.SVC()), ("b", linear_model.LogisticRegression())]),
    lambda: model_selection.GridSearchCV(
        tree.DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}
    ),
]


@pytest.mark.parametrize("make", ESTIMATORS)
def test_an_estimator_goes_by_its_parameters_and_what_it_learnt(make: Callable[[], Any]) -> None:
    before = digest(make())
    assert digest(make()) == digest(base.clone(make())) == before
    fitted = make().fit(X, Y)
    assert digest(fitted) != before
    for same in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert digest(same) == digest(fitted)
    after = digest(fitted)
    if hasattr(fitted, "predict"):
        fitted.predict(X)
    assert digest(fitted) == after
    # A search notes how long it took.
    if not isinstance(fitted, model_selection.GridSearchCV):
        assert digest(make().fit(X, Y)) == after
    assert digest(make().fit(X[::2], Y[::2])) != after


@pytest.mark.long  # importing them takes seconds; test_vectors.py has other libraries' types
def test_estimators_have_one_digest_in_every_process() -> None:
    code = (
        "from tests.hashing.test_models import *\n"
        "print([str(digest(make().fit(X, Y))) for make in ESTIMATORS[:8]])"
    )
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "PYTHONHASHSEED": other,
            # What several threads add up is another sum.
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("'")[1::2] == [
        str(digest(make().fit(X, Y))) for make in ESTIMATORS[:8]
    ]


def _set(path: str, value: Any) -> Callable[[Any], Any]:
    *inner, last = path.split(".")

    def change(found: Any) -> None:
        for name in inner:
            found = found[int(name)] if name.isdigit() else getattr(found, name)
        setattr(found, last, value)

    return change


def _in_place(path: str) -> Callable[[Any], Any]:
    def change(found: Any) -> None:
        for name in path.split("."):
            found = found[int(name)] if name.isdigit() else getattr(found, name)
        found.flat[0] += 1

    return change


FOREST: list[Callable[[Any], Any]] = [
    _set("max_depth", 3),
    _set("random_state", 1),
    _set("verbose", 1),
    _set("n_classes_", 4),
    _set("estimators_.1.random_state", 5),
    _in_place("classes_"),
    _in_place("estimators_.0.tree_.value"),
    _in_place("estimators_.2.tree_.threshold"),
    lambda forest: forest.estimators_.reverse(),
    lambda forest: setattr(forest, "predict", lambda data: data),
    lambda forest: setattr(
        forest, "predict_proba", types.MethodType(lambda self, data: data, forest)
    ),
    lambda forest: setattr(forest, "note", "x"),
]


@pytest.mark.parametrize("change", FOREST)
def test_a_forest_that_was_changed_is_another(change: Callable[[Any], Any]) -> None:
    forest = ensemble.RandomForestClassifier(3, random_state=0).fit(X, Y)
    before = digest(forest)
    change(forest)
    assert digest(forest) != before


class Scaled(linear_model.LinearRegression):
    def predict(self, data: Any) -> Any:
        return super().predict(data) * 2


def test_the_code_of_a_projects_estimator_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(Scaled().fit(X, Y))
    monkeypatch.setattr(Scaled, "predict", lambda self, data: data)
    assert digest(Scaled().fit(X, Y)) != before


def test_what_is_put_into_a_librarys_class_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (linear_model.LinearRegression, Scaled, lambda: pipeline.make_pipeline(Scaled())):
        before = digest(make())
        with monkeypatch.context() as patch:
            patch.setattr(linear_model.LinearRegression, "fit", lambda self, data, target: self)
            assert digest(make()) != before
        assert digest(make()) == before
        mock = unittest.mock.patch.object(linear_model.LinearRegression, "fit")
        with mock, pytest.raises(Undigestible, match="mock"):
            digest(make())


def test_the_form_of_output_counts() -> None:
    plain, pandas = preprocessing.StandardScaler(), preprocessing.StandardScaler()
    assert digest(plain) != digest(pandas.set_output(transform="pandas"))


# -- torch ----------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    found = pytest.importorskip("torch")
    found.manual_seed(0)
    return found


def network(torch: Any) -> Any:
    nn = torch.nn
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 4))
    made.register_buffer("kept", torch.ones(2))
    made.register_buffer("passing", torch.ones(2), persistent=False)
    return made


def _tie(net: Any) -> None:
    net.add_module("more", copy.deepcopy(net[3]))
    net.more.weight = net[3].weight


def _step(torch: Any, net: Any) -> None:
    net(torch.ones(2, 3)).sum().backward()


NETWORK: dict[str, Callable[[Any, Any], Any]] = {
    "a weight": lambda torch, net: net[0].weight.data.__setitem__((0, 0), 9),
    "a buffer": lambda torch, net: net.kept.fill_(3),
    "a buffer that is not saved": lambda torch, net: net.passing.fill_(3),
    "statistics": lambda torch, net: net[1].running_mean.add_(1),
    "training": lambda torch, net: net.eval(),
    "training of a part": lambda torch, net: net[2].eval(),
    "a hyperparameter": lambda torch, net: setattr(net[2], "p", 0.7),
    "an attribute": lambda torch, net: setattr(net, "note", 1),
    "requires_grad": lambda torch, net: net[0].weight.requires_grad_(False),
    "a gradient": _step,
    "an attribute of a parameter": lambda torch, net: setattr(net[0].weight, "note", 1),
    "the dtype": lambda torch, net: net.double(),
    "the order": lambda torch, net: net.insert(0, net.pop(3)),
    "forward": lambda torch, net: setattr(net, "forward", lambda data: data),
    "forward of a part": lambda torch, net: setattr(
        net[0], "forward", types.MethodType(lambda self, data: data, net[0])
    ),
    "a forward hook": lambda torch, net: net.register_forward_hook(lambda m, i, o: o * 2),
    "a hook before": lambda torch, net: net[0].register_forward_pre_hook(lambda m, i: None),
    "a backward hook": lambda torch, net: net.register_full_backward_hook(lambda m, i, o: None),
    "one weight in two places": lambda torch, net: _tie(net),
    "a module in two places": lambda torch, net: net.append(net[0]),
    "memory in two places": lambda torch, net: setattr(net[0].bias, "data", net[3].bias.data),
    "weight norm": lambda torch, net: torch.nn.utils.parametrizations.weight_norm(net[0]),
    "none of a buffer": lambda torch, net: setattr(net, "kept", None),
}


@pytest.mark.parametrize("name", NETWORK)
def test_a_network_that_was_changed_is_another(torch: Any, name: str) -> None:
    net = network(torch)
    before = digest(net)
    NETWORK[name](torch, net)
    assert digest(net) != before


def test_a_network_of_the_same_state_is_the_same(torch: Any) -> None:
    before = digest(network(torch))
    assert digest(network(torch)) == digest(copy.deepcopy(network(torch))) == before
    assert digest(pickle.loads(pickle.dumps(network(torch)))) == before
    loaded = network(torch)
    loaded.load_state_dict(network(torch).state_dict())
    assert digest(loaded) == before
    quiet = network(torch).eval()
    after = digest(quiet)
    quiet(torch.ones(2, 3))
    assert digest(quiet) == after


def test_one_weight_in_two_places_is_not_two_equal_ones(torch: Any) -> None:
    tied, equal = network(torch), network(torch)
    _tie(tied)
    equal.add_module("more", copy.deepcopy(equal[3]))
    assert [*map(torch.equal, tied.parameters(), equal.parameters())]
    assert digest(tied) != digest(equal)


def test_hooks_count_by_their_code_and_not_by_their_number(torch: Any) -> None:
    def double(module: Any, given: Any, output: Any) -> Any:
        return output * 2

    def triple(module: Any, given: Any, output: Any) -> Any:
        return output * 3

    found = []
    for hook, how in ((double, {}), (double, {}), (triple, {}), (double, {"always_call": True})):
        net = network(torch)
        net.register_forward_hook(hook, **how)
        found.append(digest(net))
    assert found[0] == found[1]
    assert len({*found}) == 3


def test_the_code_of_networks_counts(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(torch.nn.Linear):  # type: ignore[misc]  # torch has no types here
        def forward(self, data: Any) -> Any:
            return super().forward(data) + 1

    for kind in (Mine, torch.nn.Linear):
        torch.manual_seed(0)
        net = torch.nn.Sequential(kind(2, 2))
        before = digest(net)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "forward", lambda self, data: data)
            assert digest(net) != before
        assert digest(net) == before


TENSORS: dict[str, Callable[[Any], Any]] = {
    "ones": lambda torch: torch.ones(4),
    "shape": lambda torch: torch.ones(2, 2),
    "dtype": lambda torch: torch.ones(4).half(),
    "bits": lambda torch: torch.ones(4).bfloat16(),
    "other": lambda torch: torch.arange(4.0),
    "parameter": lambda torch: torch.nn.Parameter(torch.ones(4)),
    "frozen": lambda torch: torch.nn.Parameter(torch.ones(4), requires_grad=False),
    "requires grad": lambda torch: torch.ones(4, requires_grad=True),
    "made of one": lambda torch: torch.ones(4, requires_grad=True) * 1,
    "attribute": lambda torch: _given(torch.ones(4), "note", 1),
    "gradient": lambda torch: _given(torch.ones(4), "grad", torch.ones(4)),
    "gradient 2": lambda torch: _given(torch.ones(4), "grad", torch.zeros(4)),
    "gradient of what was made": lambda torch: _retained(torch),
    "slot": lambda torch: _given(_Slotted.of(torch), "note", 1),
    "slot 2": lambda torch: _given(_Slotted.of(torch), "note", 2),
    "list": lambda torch: [torch.ones(4)],
}


class _Slotted:
    made: Any = None

    @classmethod
    def of(cls, torch: Any) -> Any:
        cls.made = cls.made or type("Slotted", (torch.Tensor,), {"__slots__": ("note",)})
        return torch.ones(4).as_subclass(cls.made)


def _retained(torch: Any) -> Any:
    made = torch.ones(4, requires_grad=True) * 1
    made.retain_grad()
    made.sum().backward()
    return made


def _given(tensor: Any, name: str, value: Any) -> Any:
    setattr(tensor, name, value)
    return tensor


def test_tensors_differ(torch: Any) -> None:
    found = {name: digest(make(torch)) for name, make in TENSORS.items()}
    assert len({*found.values()}) == len(found)
    assert found == {name: digest(make(torch)) for name, make in TENSORS.items()}
    assert digest(torch.ones(8)[::2]) == found["ones"]


def _hooked(torch: Any) -> Any:
    made = torch.nn.Linear(2, 2)
    made.weight.register_hook(lambda grad: grad)
    return made


def _compiled(torch: Any) -> Any:
    made = torch.nn.Linear(2, 2)
    made.compile()
    return made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: torch.ones(4).to_sparse(), "make it dense"),
        (lambda torch: torch.empty(4, device="meta"), "device meta"),
        (lambda torch: torch.nn.Linear(2, 2, device="meta"), "device meta"),
        (lambda torch: _hooked(torch), "hooks"),
        (lambda torch: _compiled(torch), "before compile"),
        (lambda torch: torch.compile(torch.nn.Linear(2, 2)), "that was compiled"),
        (lambda torch: torch.jit.script(torch.nn.Linear(2, 2)), "that was scripted"),
    ],
)
def test_what_of_torch_is_refused(torch: Any, make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(Undigestible, match=message):
        digest(make(torch))


# -- tokenizers -----------------------------------------------------------------------------------


def tokenizer() -> Any:
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(
        library.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]")
    )
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    return made


TOKENIZER: list[Callable[[Any], Any]] = [
    lambda made: made.enable_padding(length=4),
    lambda made: made.enable_padding(length=5),
    lambda made: made.enable_truncation(4),
    lambda made: made.add_tokens(["q"]),
    lambda made: made.add_special_tokens(["q"]),
    lambda made: setattr(made, "encode_special_tokens", True),
    lambda made: setattr(made, "note", 1),
    lambda made: setattr(made, "normalizer", __import__("tokenizers").normalizers.Lowercase()),
    lambda made: setattr(
        made, "pre_tokenizer", __import__("tokenizers").pre_tokenizers.Punctuation()
    ),
    lambda made: setattr(
        made, "model", __import__("tokenizers").models.WordLevel({"a": 0}, unk_token="a")
    ),
]


def test_a_tokenizer_goes_by_its_state() -> None:
    made = tokenizer()
    before = digest(made)
    assert digest(tokenizer()) == digest(pickle.loads(pickle.dumps(made))) == before
    made.encode("a b")
    assert digest(made) == before
    found = []
    for change in TOKENIZER:
        made = tokenizer()
        change(made)
        found.append(digest(made))
    assert len({before, *found}) == 1 + len(found)


FAST: list[Callable[[Any], Any]] = [
    lambda made: setattr(made, "padding_side", "left"),
    lambda made: setattr(made, "model_max_length", 3),
    lambda made: setattr(made, "pad_token", "b"),
    lambda made: setattr(made, "chat_template", "{{ x }}"),
    lambda made: made.add_tokens(["q"]),
    lambda made: made.add_special_tokens({"cls_token": "[CLS]"}),
    lambda made: made.backend_tokenizer.add_tokens(["r"]),
    lambda made: made.backend_tokenizer.enable_truncation(2),
    lambda made: setattr(made, "note", 1),
]


def test_a_fast_tokenizer_of_transformers() -> None:
    library = pytest.importorskip("transformers")

    def new() -> Any:
        return library.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer(), unk_token="[UNK]", pad_token="a"
        )

    made = new()
    before = digest(made)
    assert digest(new()) == digest(pickle.loads(pickle.dumps(made))) == digest(copy.deepcopy(made))
    made("a b")
    assert digest(made) == before
    found = []
    for change in FAST:
        made = new()
        change(made)
        found.append(digest(made))
    assert len({before, *found}) == 1 + len(found)


def test_a_slow_tokenizer_of_transformers() -> None:
    kind = pytest.importorskip("transformers").ByT5Tokenizer
    found = [kind(), kind(extra_ids=3), kind(), kind()]
    found[2].padding_side = "left"
    found[3].add_tokens(["q"])
    assert len({*map(digest, found)}) == 4
    assert digest(kind()) == digest(found[0])


def test_a_model_of_transformers() -> None:
    torch, library = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 8, "vocab_size": 7}

    def new(**more: Any) -> Any:
        torch.manual_seed(0)
        return library.BertModel(library.BertConfig(**config, **more)).eval()

    model = new()
    before = digest(model)
    assert digest(new()) == digest(pickle.loads(pickle.dumps(model))) == before
    model(torch.tensor([[1, 2]]))
    assert digest(model) == before
    assert digest(new(layer_norm_eps=1e-3)) != before
    model.config.hidden_dropout_prob = 0.3
    assert digest(model) != before
