package test

import (
	"testing"

	"mailraft/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }
