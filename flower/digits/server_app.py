"""What runs once, beside Flower's SuperLink: a fedlab federation over Flower's nodes."""

from pathlib import Path

from flwr.serverapp import ServerApp

from fedlab import load_mnist
from fedlab.flower import serve

app = ServerApp()


@app.main()
def main(grid, context) -> None:
    """One run, with the settings of pyproject.toml or --run-config."""
    settings = {name.replace("-", "_"): value for name, value in context.run_config.items()}
    results, settings["batch_size"] = settings.pop("results"), settings["batch_size"] or None
    settings["deadline"] = settings["deadline"] or None

    def show(record) -> None:
        print(
            f"round {record.round}: accuracy {record.accuracy:.2%}, loss {record.loss:.4f},"
            f" {record.seconds:.1f} s",
            flush=True,
        )

    if results:
        Path(results).mkdir(parents=True, exist_ok=True)
    checkpoint = str(Path(results) / "model.safetensors") if results else None
    history = serve(grid, test=load_mnist().test, checkpoint=checkpoint, on_round=show, **settings)
    if results:
        history.to_csv(Path(results) / "history.csv")
    # deploy.py looks for it: flwr run ends with exit code 0 either way
    print("the federation is finished", flush=True)
