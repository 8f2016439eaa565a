package fs

const workerEnv = "MAILRAFT_TEST_WORKER"

func workTest(spec string) {}
