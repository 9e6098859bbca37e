from fastmnist import system
from fastmnist.threads import thread_count


def test_facts(monkeypatch, tmp_path):
    (tmp_path / "shared" / "kmnist").mkdir(parents=True)
    monkeypatch.setenv("FASTMNIST_DATA", str(tmp_path / "shared"))
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(system, "_PACKAGES", ("numpy", "no-such-package"))

    facts = system.facts()

    assert facts["no-such-package"] == "not installed"
    assert facts["threads"] == str(thread_count())
    assert facts["cache folder"] == str(tmp_path / "cache")
    assert facts["data"] == str(tmp_path / "shared" / "kmnist")
    assert facts["OMP_NUM_THREADS"] == "1"
    assert "HOME" not in facts
