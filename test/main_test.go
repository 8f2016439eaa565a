package test

import (
	"testing"

	"mailraft/test/node"
	"mailraft/test/powercut"
)

func TestMain(m *testing.M) {
	powercut.ServeIfAsked()
	node.Main(m)
}
