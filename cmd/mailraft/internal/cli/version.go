package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/version"
)

func (p *program) version() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionObject{version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return p.tell(asJSON, v, "mailraft %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
		},
	}
	jsonFlag(cmd, &asJSON, "an object")
	return cmd
}

// versionObject is the version in JSON.
type versionObject struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}
