package device

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/agent"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "enrol machines that have no identity of their own, and remove them", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.inviteDeviceCommand(), a.listDevicesCommand(), a.removeDeviceCommand(), a.deviceKeyCommand(), a.enrolDeviceCommand(), a.renewDeviceCommand())
	return c
}

func (a *app) inviteDeviceCommand() *cobra.Command {
	var request api.InvitationRequest
	var labels []string
	expires := &command.Duration{}
	c := &cobra.Command{
		Use: "token ISSUER NAME", Short: "make a one-use token with which a device enrols", Args: command.Exactly("ISSUER", "NAME"),
		Long: command.Wrap(`Prints the token, once. Whoever has it first is the device: send it on a way that you trust, and let it be good
			for as short as will do. A token with --thumbprint is good for the key with that thumbprint alone, so that nothing is
			lost when it is stolen; daypass device key prints it on the device.

			ISSUER is an issuer of kind devices in the access configuration. Policies see the device as Device::Workload with its
			name and its labels.`),
		Example: `daypass device token edge pump-7 --label site=berlin > token
daypass device token edge pump-7 --thumbprint "$THUMBPRINT" --expires 10m`,
		RunE: func(c *cobra.Command, args []string) error {
			request.Issuer, request.Name, request.TTL, request.Labels = args[0], args[1], expires.Value, map[string]string{}
			for _, label := range labels {
				name, value, ok := strings.Cut(label, "=")
				if _, twice := request.Labels[name]; !ok || twice {
					return terminal.UsageOf(c.CommandPath(), "a label is written name=value, each name once, not "+terminal.Quote(label))
				}
				request.Labels[name] = value
			}
			client, err := a.Admin()
			if err != nil {
				return err
			}
			made, err := client.InviteDevice(c.Context(), request)
			if err != nil {
				return err
			}
			defer a.Hint("it is good once, until %s; on the device: daypass device enrol --server URL --token-file FILE --key FILE", made.ExpiresAt)
			return a.Show(made, func() { a.Printf("%s\n", terminal.Clean(made.Token)) })
		},
	}
	c.Flags().StringArrayVar(&labels, "label", nil, "`name=value` that policies may ask of the device; may be repeated")
	c.Flags().StringVar(&request.Thumbprint, "thumbprint", "", "`thumbprint` of the one key that may use the token")
	c.Flags().Var(expires, "expires", "how long the token is good, such as 10m, at most 24h; 1h unless given")
	return c
}

func (a *app) listDevicesCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "list ISSUER", Short: "show the devices of an issuer", Args: command.Exactly("ISSUER"),
		Long:    command.Wrap(`Also those that were removed and whose term is over: they stay for the record, and free their name.`),
		Example: `daypass device list edge`,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			devices, more, err := command.Collect(client.Devices(c.Context(), args[0]), limit)
			if err != nil {
				return err
			}
			defer a.TellMore(more, limit)
			return a.Show(api.Page[api.Device]{Items: devices}, func() { a.listDevices(devices) })
		},
	}
	command.AddLimit(c, &limit)
	return c
}

func (a *app) listDevices(devices []api.Device) {
	if len(devices) == 0 {
		a.Printf("no devices\n")
		return
	}
	var rows [][]string
	for _, d := range devices {
		term := ""
		if d.State == "enrolled" {
			term = a.Distance(d.Until)
		}
		rows = append(rows, []string{terminal.Clean(d.Name), d.State, term, terminal.Clean(labelsOf(d)), terminal.Clean(d.Thumbprint)})
	}
	a.Table([]string{"DEVICE", "STATE", "TERM", "LABELS", "KEY"}, rows)
}

// labelsOf writes the labels of a device as one sets them.
func labelsOf(d api.Device) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(d.Labels)) {
		all = append(all, name+"="+d.Labels[name])
	}
	return strings.Join(all, " ")
}

func (a *app) removeDeviceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ISSUER NAME", Short: "refuse a device from now on, and end its leases", Args: command.Exactly("ISSUER", "NAME"),
		Long: command.Wrap(`Its evidence and its access tokens are refused as soon as this returns, and its leases have ended. Its name is
			free then: the next device that enrols under it is the same principal to policies.`),
		Example: `daypass device remove edge pump-7`,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			d, err := client.RemoveDevice(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.Show(d, func() { a.Printf("device %s of %s is removed\n", terminal.Clean(d.Name), terminal.Clean(d.Issuer)) })
		},
	}
}

func (a *app) deviceKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "key FILE", Short: "make a device's key where there is none, and print its thumbprint", Args: command.Exactly("FILE"),
		Long:    command.Wrap(`For enrolment tokens that are bound to the key: daypass device token --thumbprint. A file that is there is never written.`),
		Example: `daypass device key /var/lib/daypass/device.key`,
		RunE: func(_ *cobra.Command, args []string) error {
			key, _, err := device.Key(args[0])
			if err != nil {
				return err
			}
			print, err := device.Thumbprint(key)
			if err != nil {
				return err
			}
			return a.Show(map[string]string{"thumbprint": print}, func() { a.Printf("%s\n", print) })
		},
	}
}

func (a *app) enrolDeviceCommand() *cobra.Command {
	var file, path string
	c := &cobra.Command{
		Use: "enrol", Short: "make this machine a device, with an enrolment token and a key of its own", Args: command.Exactly(),
		Long: command.Wrap(`Makes the key where there is no such file, uses the token up, and writes where and as whom the device was
			enrolled beside the key. The key never leaves the machine. It must belong to the user who runs this and be closed to
			all others; a file that is there is used and never written. Run it again with the same key when the answer was lost.

			From then on DAYPASS_DEVICE names that state file, and every command finds evidence and server by itself. daypass run
			renews the device's term at two thirds of it, as long as it runs; daypass device renew does it at any time.`),
		Example: `daypass device enrol --server https://daypass.example.com --token-file token --key /var/lib/daypass/device.key
export DAYPASS_DEVICE=/var/lib/daypass/device.key.json
daypass run telemetry -- ./upload`,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" || a.TokenFile == "" {
				return terminal.UsageOf(c.CommandPath(), "enrol needs --key and --token-file")
			}
			return a.enrolDevice(c, file, path)
		},
	}
	c.Flags().StringVar(&file, "key", "", "`file` with the device's key; made where it is not there")
	c.Flags().StringVar(&path, "state", "", "`file` for where and as whom the device was enrolled; the key's with .json unless given")
	return c
}

func (a *app) enrolDevice(c *cobra.Command, file, path string) error {
	address := a.ServerURL()
	if address == "" {
		return terminal.Hinted(terminal.UsageOf(c.CommandPath(), "no server is named"), "--server https://daypass.example.com")
	}
	token, err := client.FileToken(a.TokenFile).Token(c.Context())
	if err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	if path == "" {
		path = file + ".json"
	}
	state := device.State{Server: address, Key: file}
	if ca := a.CAFile; ca != "" {
		if state.CAFile, err = filepath.Abs(ca); err != nil {
			return err
		}
	}
	key, made, err := device.Key(file)
	if err != nil {
		return err
	}
	if made {
		a.Tell("made the key %s", file)
	}
	server, err := a.Dial(address, agent.Evidence{})
	if err != nil {
		return err
	}
	d, err := server.EnrolDevice(c.Context(), token, key)
	if err != nil {
		return err
	}
	state.Take(d, a.Now())
	if err := state.Write(path); err != nil {
		return err
	}
	defer a.Hint("export %s=%s; the token is used up: delete %s", agent.DeviceVariable, path, a.TokenFile)
	return a.Show(d, func() {
		a.Printf("this machine is %s:%s until %s\n", terminal.Clean(d.Issuer), terminal.Clean(d.Name), a.Stamp(d.Until))
	})
}

func (a *app) renewDeviceCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "renew", Short: "renew this device's term, and its key", Args: command.Exactly(),
		Long: command.Wrap(`The device is that of DAYPASS_DEVICE. --new-key replaces its key by the one in that file, which is made where it is
			not there: the server gets proofs of both. The old file is left where it is, and is worth nothing.`),
		Example: `daypass device renew
daypass device renew --new-key /var/lib/daypass/device-2.key`,
		RunE: func(c *cobra.Command, _ []string) error {
			path := a.Getenv(agent.DeviceVariable)
			if path == "" {
				return terminal.UsageOf(c.CommandPath(), "no device is named: set "+agent.DeviceVariable)
			}
			state, err := device.Read(path)
			if err != nil {
				return err
			}
			server, err := a.Dial(state.Server, agent.Evidence{})
			if err != nil {
				return err
			}
			if file == "" {
				err = device.Renew(c.Context(), server, path, a.Now)
			} else {
				err = device.ChangeKey(c.Context(), server, path, file, a.Now)
			}
			if err != nil {
				return err
			}
			if state, err = device.Read(path); err != nil {
				return err
			}
			return a.Show(state, func() {
				a.Printf("this machine is %s until %s\n", terminal.Clean(fmt.Sprintf("%s:%s", state.Issuer, state.Name)), a.Stamp(state.Until))
			})
		},
	}
	c.Flags().StringVar(&file, "new-key", "", "`file` with the key that the device has from now on")
	return c
}
