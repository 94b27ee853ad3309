"""Screenshots need a browser."""


def test_a_missing_browser_is_a_user_error(run, tmp_path):
    done = run("dev.screenshots", f"--logdir={tmp_path}", "--browser=no-such-browser")
    assert done.returncode == 1
    assert b"no browser is found as no-such-browser; install Chromium" in done.stderr
