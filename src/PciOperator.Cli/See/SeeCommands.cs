using System.CommandLine;
using System.Globalization;
using PciOperator.Api;
using PciOperator.Cli.Ask;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Core;

namespace PciOperator.Cli.See;

/// <summary>The commands that show what is there.</summary>
internal static class SeeCommands
{
    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(Shell shell) =>
        [Devices(shell), Groups(shell), Vfs(shell), Topology(shell), Nodes(shell), Claims(shell), Who(shell)];

    /// <summary>The option that keeps a command to one node.</summary>
    public static Option<string?> NodeOption() => new("--node") { Description = "Only this node." };

    private static Command Devices(Shell shell)
    {
        Option<string?> node = NodeOption();
        var all = new Option<bool>("--all")
        {
            Description = "Also what no PciDeviceSpec names: the rest of the IOMMU groups, with bridges, and what else a node has to give.",
        };
        var command = new Command("devices", "The cluster's devices: name, driver, NUMA node, IOMMU group, state, and who has them.")
        {
            node,
            all,
        };
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<DeviceView> devices = await DevicesAsync(session, session.Value(node), session.Value(all));
                session.Printer.Write(
                    new Sheet<DeviceView>(
                        [.. devices.Where(d => session.Value(all) || d.Spec is not null)],
                        DeviceColumns,
                        d => $"{d.Node}/{d.Address}",
                        ViewJsonContext.Default.ListingDeviceView
                    )
                    {
                        Nothing = "No devices: no PciDeviceSpec names any that a node has (kubectl pci discover proposes some).",
                    }
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static Command Groups(Shell shell)
    {
        Option<string?> node = NodeOption();
        var command = new Command("groups", "IOMMU groups: each goes to one claim as a whole, or to none.") { node };
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<GroupView> groups = GroupView.Of(await DevicesAsync(session, session.Value(node)));
                session.Printer.Write(
                    new Sheet<GroupView>(groups, GroupColumns, g => $"{g.Node}/{g.Group}", ViewJsonContext.Default.ListingGroupView)
                    {
                        Nothing = "No IOMMU groups: no PciDeviceSpec names a device, or the nodes' IOMMU is off (kubectl pci diagnose).",
                    }
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static Command Vfs(Shell shell)
    {
        Option<string?> node = NodeOption();
        var traffic = new Option<bool>("--traffic")
        {
            Description = "With what the PFs' drivers have counted: each node's agent is asked, by kubectl port-forward.",
        };
        var command = new Command("vfs", "Virtual functions by their physical function, and who uses which.") { node, traffic };
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<DeviceView> devices = await DevicesAsync(session, session.Value(node));
                if (session.Value(traffic))
                    devices = await WithTrafficAsync(session, devices);
                IReadOnlyList<FunctionView> functions = FunctionView.Of(devices);
                if (session.Format is OutputFormat.Json or OutputFormat.Yaml)
                    session.Printer.Write(new Listing<FunctionView>(functions), ViewJsonContext.Default.ListingFunctionView);
                else
                    session.Printer.Write(VfSheet(functions, session.Value(traffic)));
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static async Task<IReadOnlyList<DeviceView>> WithTrafficAsync(Session session, IReadOnlyList<DeviceView> devices)
    {
        HashSet<string> nodes = [.. devices.Where(d => d.ParentAddress is not null).Select(d => d.Node)];
        if (nodes.Count == 0)
            return devices;
        string agents = ClusterSnapshot.AgentsNamespaceOf(await session.ListAsync<PciNode>());
        var counted = (await AgentMetrics.ReadAsync(session, agents, nodes)).ToDictionary(m => m.Key, m => TrafficView.Of(m.Value));
        return
        [
            .. devices.Select(d =>
                d.ParentAddress is null ? d : d with { Traffic = counted.GetValueOrDefault(d.Node)?.GetValueOrDefault(d.Address) }
            ),
        ];
    }

    private static Command Topology(Shell shell)
    {
        var name = new Argument<string>("node") { Description = "The node." };
        var command = new Command("topology", "A node's devices by socket, NUMA node and root bus, and which are free.") { name };
        command.SetAction(
            shell.Run(async session =>
            {
                PciNode node = (await session.PciNodesAsync(session.Value(name)))[0];
                IReadOnlyList<DeviceView> devices = DeviceView.Of([node], new DeviceNames(session.Io, [node]));
                if (session.Format is OutputFormat.Table or OutputFormat.Wide)
                {
                    session.Printer.Tree(NodeTopology.Draw(node, devices));
                }
                else
                {
                    session.Printer.Write(
                        new Sheet<DeviceView>(
                            devices,
                            DeviceColumns,
                            d => $"{d.Node}/{d.Address}",
                            ViewJsonContext.Default.ListingDeviceView
                        )
                    );
                }

                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static Command Nodes(Shell shell)
    {
        var command = new Command("nodes", "The nodes: whether they can pass devices through, and what is free.");
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<PciNode> nodes = await session.PciNodesAsync(null);
                IReadOnlyList<DeviceView> devices = DeviceView.Of(nodes, new DeviceNames(session.Io, nodes));
                session.Printer.Write(
                    new Sheet<NodeView>(
                        [.. nodes.Select(n => NodeView.Of(n, devices))],
                        NodeColumns,
                        n => $"pcinode.{PciOperatorApi.Group}/{n.Name}",
                        ViewJsonContext.Default.ListingNodeView
                    )
                    {
                        Nothing = "No PciNodes: the controller makes one for each node; is it running?",
                    }
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static Command Claims(Shell shell)
    {
        var all = new Option<bool>("--all-namespaces", "-A") { Description = "Claims of all namespaces." };
        var command = new Command("claims", "Claims: where they are, what they hold, and why one waits.") { all };
        command.SetAction(
            shell.Run(async session =>
            {
                bool everywhere = session.Value(all);
                string? ns = everywhere ? null : session.Namespace;
                IReadOnlyList<PassthroughClaim> claims = await session.ListAsync<PassthroughClaim>(ns);
                session.Printer.Write(
                    new Sheet<ClaimView>(
                        [.. claims.Select(ClaimView.Of)],
                        ClaimColumns(everywhere, session.Io.Time.GetUtcNow().UtcDateTime),
                        c => $"passthroughclaim.{PciOperatorApi.Group}/{c.Name}",
                        ViewJsonContext.Default.ListingClaimView
                    )
                    {
                        Nothing = everywhere ? "No claims." : $"No claims in namespace {ns}; -A shows those of all namespaces.",
                    }
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static Command Who(Shell shell)
    {
        var address = new Argument<string>("address") { Description = "The device: 0000:21:00.0, or 21:00.0." };
        Option<string?> node = NodeOption();
        var command = new Command("who", "Who has the device at an address, on each node that has one there.") { address, node };
        command.SetAction(
            shell.Run(async session =>
            {
                string wanted = AddressOf(session.Value(address)!);
                IReadOnlyList<DeviceView> devices = await DevicesAsync(session, session.Value(node), all: true);
                DeviceView[] found = [.. devices.Where(d => d.Address == wanted)];
                if (found.Length == 0)
                {
                    throw new CliException(
                        ExitCodes.NotFound,
                        $"No PciNode has a device {wanted}: kubectl pci devices --all shows those that are known; bridges and parts of the host itself are not, nor VFs that no PciDeviceSpec names."
                    );
                }

                var uses = new Dictionary<string, string?>();
                foreach (string claim in found.Select(d => d.Claim).OfType<string>().Distinct())
                    uses[claim] = await UseAsync(session, claim);
                session.Printer.Write(
                    new Sheet<HolderView>(
                        [
                            .. found.Select(d => new HolderView
                            {
                                Device = d,
                                UsedBy = d.Claim is { } claim ? uses[claim] : null,
                                Companions =
                                [
                                    .. devices
                                        .Where(o => o.Node == d.Node && o.Address != d.Address && d.IommuGroup is not null)
                                        .Where(o => o.IommuGroup == d.IommuGroup)
                                        .Select(o => o.Address),
                                ],
                            }),
                        ],
                        HolderColumns,
                        h => h.Device.Claim is { } claim ? $"passthroughclaim.{PciOperatorApi.Group}/{claim.Split('/')[^1]}" : "-",
                        ViewJsonContext.Default.ListingHolderView
                    )
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    /// <summary>An address as sysfs writes it; the domain may be left out.</summary>
    public static string AddressOf(string text) =>
        PciAddress.TryParse(text, out PciAddress address) || PciAddress.TryParse("0000:" + text, out address)
            ? address.ToString()
            : throw new CliException(
                ExitCodes.Usage,
                $"'{text}' is not a PCI address: domain:bus:slot.function in hexadecimal is, such as 0000:21:00.0 or 21:00.0."
            );

    /// <summary>Devices of one node, or of all.</summary>
    public static async Task<IReadOnlyList<DeviceView>> DevicesAsync(Session session, string? node, bool all = false)
    {
        IReadOnlyList<PciNode> nodes = await session.PciNodesAsync(node);
        var names = new DeviceNames(session.Io, nodes);
        return all ? DeviceView.All(nodes, names) : DeviceView.Of(nodes, names);
    }

    /// <summary>What a claim says of the pods that use it; the caller may not be allowed to read it.</summary>
    private static async Task<string?> UseAsync(Session session, string claim)
    {
        string[] parts = claim.Split('/');
        try
        {
            PassthroughClaim? found = await session.Client.GetAsync<PassthroughClaim>(parts[1], parts[0], session.Ct);
            return found is null ? "the claim is gone; its node still gives the device back" : ClaimView.Of(found).InUse;
        }
        catch (Kubernetes.ApiException forbidden) when (forbidden.IsForbidden)
        {
            return "not to be seen: you may not read the claim";
        }
    }

    private static readonly IReadOnlyList<Column<DeviceView>> DeviceColumns =
    [
        new("NODE", d => Cell.Of(d.Node)),
        new("ADDRESS", d => Cell.Of(d.Address)),
        new("IDS", d => Cell.Of($"{d.VendorId}:{d.ProductId}")) { LeaveOut = 3 },
        new("DEVICE", d => Cell.Of(DeviceNames.Short(d.Name))) { CutTo = 14 },
        new("TYPE", d => Cell.Of(d.Type)) { Wide = true },
        new("DRIVER", d => Cell.Of(d.Driver)) { LeaveOut = 4 },
        new("IFACE", d => Cell.Of(d.Interface)) { Wide = true },
        new("NUMA", d => Cell.Of(d.NumaNode)) { LeaveOut = 1 },
        new("GROUP", d => Cell.Of(d.IommuGroup)) { LeaveOut = 2 },
        new("STATE", d => Cell.Of(d.State, d.Tone)),
        new("OWNER", d => Cell.Of(d.Claim)) { CutTo = 16 },
        new("SPEC", d => Cell.Of(d.Spec)) { Wide = true },
        new("RESET", d => Cell.Of(d.ProvenReset)) { Wide = true },
        new("WHY NOT OFFERED", d => Cell.Of(d.Reason)) { Wide = true },
        new("PROBLEMS", d => Cell.Of(d.Problems is null ? null : string.Join("; ", d.Problems), Tone.Bad)) { Wide = true },
    ];

    private static readonly IReadOnlyList<Column<GroupView>> GroupColumns =
    [
        new("NODE", g => Cell.Of(g.Node)),
        new("GROUP", g => Cell.Of(g.Group)),
        new("NUMA", g => Cell.Of(g.NumaNode)) { LeaveOut = 1 },
        new("STATE", g => Cell.Of(g.State, StateTone(g.State))),
        new("OWNER", g => Cell.Of(string.Join(",", g.Claims))) { CutTo = 15 },
        new("DEVICES", g => Cell.Of(string.Join(",", g.Devices.Select(d => d.Address)))) { CutTo = 24 },
        new("WHY", g => Cell.Of(g.Reason)) { Wide = true },
    ];

    private static readonly IReadOnlyList<Column<NodeView>> NodeColumns =
    [
        new("NODE", n => Cell.Of(n.Name)),
        new("READY", n => Truth(n.Ready)),
        new("IOMMU", n => Truth(n.Iommu)),
        new("VFIO", n => Truth(n.Vfio)),
        new("KUBELET", n => Truth(n.Kubelet)) { LeaveOut = 2 },
        new("HEALTHY", n => Truth(n.Healthy)) { LeaveOut = 1 },
        new("DEVICES", n => Cell.Of(n.Devices)),
        new("FREE", n => Cell.Of(n.Free)),
        new("HELD", n => Cell.Of(n.Held)),
        new("CLAIMS", n => Cell.Of(n.Claims)) { LeaveOut = 3 },
        new("KERNEL", n => Cell.Of(n.Kernel)) { Wide = true },
        new("AGENT", n => Cell.Of(n.Agent)) { Wide = true },
    ];

    private static readonly IReadOnlyList<Column<HolderView>> HolderColumns =
    [
        new("NODE", h => Cell.Of(h.Device.Node)),
        new("ADDRESS", h => Cell.Of(h.Device.Address)),
        new("DEVICE", h => Cell.Of(DeviceNames.Short(h.Device.Name))) { CutTo = 12, LeaveOut = 2 },
        new("STATE", h => Cell.Of(h.Device.State, h.Device.Tone)),
        new("OWNER", h => Cell.Of(h.Device.Claim)),
        new("REQUEST", h => Cell.Of(h.Device.Request ?? (h.Device.Claim is null ? null : "(companion)"))) { LeaveOut = 3 },
        new("USED BY", h => Cell.Of(h.UsedBy)) { CutTo = 10, LeaveOut = 1 },
        new("WITH", h => Cell.Of(string.Join(",", h.Companions))) { Wide = true },
        new("WHY NOT OFFERED", h => Cell.Of(h.Device.Reason)) { Wide = true },
    ];

    private static IReadOnlyList<Column<ClaimView>> ClaimColumns(bool everywhere, DateTime now) =>
        [
            .. everywhere ? [new Column<ClaimView>("NAMESPACE", c => Cell.Of(c.Namespace))] : Array.Empty<Column<ClaimView>>(),
            new("NAME", c => Cell.Of(c.Name)),
            new("PHASE", c => Cell.Of(c.Phase, PhaseTone(c))),
            new("NODE", c => Cell.Of(c.Node)),
            new("READY", c => Cell.Of(c.Ready ? "True" : "False", c.Ready ? Tone.Good : Tone.Busy)) { LeaveOut = 3 },
            new("REQUESTS", c => Cell.Of(c.Requests)) { CutTo = 12 },
            new("DEVICES", c => Cell.Of(string.Join(",", c.Devices))) { Wide = true },
            new("AGE", c => Cell.Of(Age.Of(c.Created, now))) { LeaveOut = 1 },
            new("MESSAGE", c => Cell.Of(c.Message ?? c.InUse)) { CutTo = 16, LeaveOut = 2 },
        ];

    private static readonly IReadOnlyList<Column<(FunctionView Pf, DeviceView? Vf)>> TrafficColumns =
    [
        new("RECEIVED", r => Cell.Of(TrafficView.Bytes(r.Vf?.Traffic?.ReceivedBytes))),
        new("SENT", r => Cell.Of(TrafficView.Bytes(r.Vf?.Traffic?.SentBytes))),
        new("PACKETS IN", r => Cell.Of(r.Vf?.Traffic?.ReceivedPackets?.ToString(CultureInfo.InvariantCulture))) { Wide = true },
        new("PACKETS OUT", r => Cell.Of(r.Vf?.Traffic?.SentPackets?.ToString(CultureInfo.InvariantCulture))) { Wide = true },
        new("DROPPED IN", r => Cell.Of(r.Vf?.Traffic?.ReceivedDropped?.ToString(CultureInfo.InvariantCulture))) { Wide = true },
        new("DROPPED OUT", r => Cell.Of(r.Vf?.Traffic?.SentDropped?.ToString(CultureInfo.InvariantCulture))) { Wide = true },
    ];

    /// <summary>A row for each VF, and one for each PF without any.</summary>
    private static Sheet<(FunctionView Pf, DeviceView? Vf)> VfSheet(IReadOnlyList<FunctionView> functions, bool traffic) =>
        new(
            [.. functions.SelectMany(pf => pf.Vfs.Count == 0 ? [(pf, null)] : pf.Vfs.Select(vf => (pf, (DeviceView?)vf)))],
            [
                new("NODE", r => Cell.Of(r.Pf.Node)),
                new("PF", r => Cell.Of(r.Pf.Address)),
                new("IFACE", r => Cell.Of(r.Pf.Interface)) { LeaveOut = 3 },
                new("VFS", r => Cell.Of(r.Pf.TotalVfs is null ? null : $"{r.Pf.NumVfs ?? 0}/{r.Pf.TotalVfs}")) { LeaveOut = 2 },
                new("PF STATE", r => Cell.Of(r.Pf.State)) { LeaveOut = 4 },
                new("VF", r => Cell.Of(r.Vf?.Address)),
                new("STATE", r => Cell.Of(r.Vf?.State, r.Vf?.Tone ?? Tone.Plain)) { LeaveOut = traffic ? 1 : 0 },
                new("OWNER", r => Cell.Of(r.Vf is null ? r.Pf.Claim : r.Vf.Claim)) { CutTo = 16 },
                .. traffic ? TrafficColumns : [],
                new("PF DEVICE", r => Cell.Of(r.Pf.Name)) { Wide = true },
                new("DRIVER", r => Cell.Of(r.Vf?.Driver)) { Wide = true },
            ],
            r => $"{r.Pf.Node}/{r.Vf?.Address ?? r.Pf.Address}",
            // JSON and YAML are by PF.
            null!
        )
        {
            Nothing = "No physical or virtual functions that a PciDeviceSpec names.",
        };

    private static Cell Truth(string? status) =>
        Cell.Of(
            status,
            status switch
            {
                "True" => Tone.Good,
                "False" => Tone.Bad,
                _ => Tone.Busy,
            }
        );

    private static Tone StateTone(string state) =>
        state switch
        {
            "free" => Tone.Good,
            "held" => Tone.Busy,
            _ => Tone.Bad,
        };

    private static Tone PhaseTone(ClaimView claim) =>
        claim.Ready ? Tone.Good
        : claim.Phase == nameof(ClaimPhase.Failed) ? Tone.Bad
        : Tone.Busy;
}
