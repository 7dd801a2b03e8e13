"""Trains RecBole's DeepFM on an exported folder; prints the labels it saw and its AUC, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


def main(folder: str) -> None:
    sys.argv = sys.argv[:1]
    config = Config(
        model="DeepFM",
        config_file_list=[str(Path(folder) / "config.yaml")],
        config_dict={"use_gpu": False, "state": "ERROR", "embedding_size": 4},
    )
    init_seed(0, True)
    train, valid, _ = data_preparation(config, create_dataset(config))
    labels = [float(y) for batch in train for y in batch[config["LABEL_FIELD"]]]
    model = get_model("DeepFM")(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "DeepFM")(config, model)
    _, found = trainer.fit(train, valid, saved=False, show_progress=False)
    print(json.dumps({"labels": labels, "auc": found["auc"]}))


if __name__ == "__main__":
    main(sys.argv[1])
