def test_a_browser_that_is_not_there_is_told(run, tmp_path):
    done = run("dev.screenshots", f"--logdir={tmp_path}", "--browser=no-such-browser")
    assert done.returncode == 1
    assert b"no browser found as no-such-browser; install Chromium" in done.stderr
