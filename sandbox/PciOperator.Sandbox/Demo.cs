using System.Diagnostics;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using Spectre.Console;

namespace PciOperator.Sandbox;

/// <summary><c>make demo</c>: the main job, end to end, in colour and words.</summary>
internal sealed class Demo
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly IAnsiConsole _console = Terminal.Open();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly SandboxCluster _cluster;
    private readonly string? _samples;
    private readonly List<string> _failures = [];

    private Demo(SandboxCluster cluster, string? samples) => (_cluster, _samples) = (cluster, samples);

    public static async Task<int> RunAsync(int nodes, string? samples, CancellationToken ct)
    {
        using ILoggerFactory logs = KubernetesLogging.Create(LogLevel.Error, LogFormat.Text);
        await using SandboxCluster cluster = await SandboxCluster.StartAsync(
            new SandboxClusterOptions
            {
                Log = logs.CreateLogger("demo"),
                RunsPods = true,
                Controller = new ControllerOptions { LeaderElect = false },
            },
            ct: ct
        );
        return await new Demo(cluster, samples).PlayAsync(nodes, ct);
    }

    private async Task<int> PlayAsync(int nodes, CancellationToken ct)
    {
        Say(
            "Three programs, one cluster",
            $"an API server in this process, the real controller, and the real agent on each of {nodes} simulated hosts, whose sysfs behaves like the kernel's."
        );
        _cluster.StartController();
        for (int i = 1; i <= nodes; i++)
            await _cluster.AddNodeAsync($"node-{i}", LabHosts.Create(i), LabHosts.Labels(i), ct);
        Dictionary<(string, string), string?> before = Drivers();

        Say(
            "An administrator says what may be given away",
            "PciDeviceSpecs (Nova's device_spec) and PciAliases (Nova's alias), from config/samples."
        );
        int specs = await ApplyAsync("device-specs", ct) + await ApplyAsync("aliases", ct);
        await UntilAsync("every node's inventory", () => SettledAsync(ct), ct);
        before = WithVfs(before, Drivers());
        await ShowNodesAsync(ct);
        _console.MarkupLine($"  [grey]{specs} objects applied; the agents made the virtual functions that the specs ask for.[/]");

        Say(
            "Users ask for devices",
            "PassthroughClaims (Nova's flavor pci_passthrough:alias). Each is placed on one node, bound there, and verified."
        );
        await ApplyAsync("claims", ct);
        var claims = (await _cluster.Client.ListAsync<PassthroughClaim>(ct: ct)).Items.Select(c => c.Metadata.Name!).ToList();
        int ready = 0;
        foreach (string name in claims)
        {
            ready += await UntilAsync(
                $"claim {name}",
                async () => (await ClaimAsync(name, ct))?.Status?.Conditions.IsTrue(Conditions.Ready) == true,
                ct
            )
                ? 1
                : 0;
        }

        await ShowClaimsAsync(ct);
        CheckBound(await ClaimsAsync(ct));

        Say(
            "VMs get the devices",
            "a pod for each claim, as KubeVirt makes one for a VM, and one whose claim waits for it. kube-scheduler allocates the ResourceClaims, kubelets have the agents prepare them (DRA), and a container sees its devices and no others."
        );
        await Manifests.ApplyAsync(
            _cluster.Client,
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata:
              name: roaming
            spec:
              bindingMode: WaitForFirstConsumer
              requests:
                - name: disk
                  alias: nvme
            """,
            ct: ct
        );
        foreach (string name in claims.Append("roaming"))
            await Manifests.ApplyAsync(_cluster.Client, Vm(name), ct: ct);
        foreach (string name in claims.Append("roaming"))
            await UntilAsync($"the start of VM {name}", async () => await DevicesOfAsync(name, ct) is not null, ct);
        await ShowVmsAsync([.. claims, "roaming"], ct);

        Say("What can't be served says why", "a claim for more cards than any node has:");
        await Manifests.ApplyAsync(
            _cluster.Client,
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata:
              name: too-much
            spec:
              requests:
                - name: gpus
                  alias: nv2080
                  count: 16
            """,
            ct: ct
        );
        await UntilAsync("the reason", async () => (await ClaimAsync("too-much", ct))?.Status?.Phase == ClaimPhase.Pending, ct);
        _console.MarkupLine(
            $"  [yellow]{Markup.Escape((await ClaimAsync("too-much", ct))?.Status?.Conditions.Find(Conditions.Scheduled)?.Message ?? "")}[/]"
        );

        Say(
            "Everything is given back",
            "the VMs are deleted, and the claims; each goes when its VM is gone and its devices are on their own host drivers again."
        );
        foreach (string name in claims.Append("roaming"))
            await _cluster.Client.DeleteAsync<V1Pod>("vm-" + name, "default", ct: ct);
        await _cluster.Client.DeleteAsync<PassthroughClaim>("too-much", "default", ct: ct);
        await _cluster.Client.DeleteAsync<PassthroughClaim>("roaming", "default", ct: ct);
        int released = 0;
        foreach (string name in claims)
            await _cluster.Client.DeleteAsync<PassthroughClaim>(name, "default", ct: ct);
        foreach (string name in claims)
            released += await UntilAsync($"the release of {name}", async () => await ClaimAsync(name, ct) is null, ct) ? 1 : 0;
        await UntilAsync("the release of roaming", async () => await ClaimAsync("roaming", ct) is null, ct);
        CheckRestored(before, Drivers());

        foreach (string failure in _failures)
            _console.MarkupLine($"  [red]failed:[/] {Markup.Escape(failure)}");
        _console.MarkupLine($"  [grey]{_clock.Elapsed.TotalSeconds:0.0} s.[/]");
        _console.WriteLine();
        // Exactly this line, without colour: scripts read it.
        Console.WriteLine($"demo: {ready} claims ready, {released} released, {_failures.Count} failed");
        return _failures.Count == 0 && ready > 0 && ready == released ? 0 : 1;
    }

    private void Say(string heading, string words)
    {
        _console.WriteLine();
        _console.MarkupLine($"[bold aqua]{Markup.Escape(heading)}[/]: {Markup.Escape(words)}");
    }

    private async Task<int> ApplyAsync(string word, CancellationToken ct)
    {
        int count = 0;
        foreach (string yaml in Samples.Read(_samples, word))
            count += (await Manifests.ApplyAsync(_cluster.Client, yaml, ct: ct)).Count;
        return count;
    }

    private async Task<bool> UntilAsync(string what, Func<Task<bool>> holds, CancellationToken ct)
    {
        var began = Stopwatch.StartNew();
        while (!await holds())
        {
            if (began.Elapsed > Patience)
            {
                _failures.Add($"{what} did not come within {Patience.TotalSeconds:0} s");
                return false;
            }

            await Task.Delay(20, ct);
        }

        return true;
    }

    /// <summary>Whether every agent has taken up its rules and made its VFs.</summary>
    private async Task<bool> SettledAsync(CancellationToken ct)
    {
        IList<PciNode> nodes = (await _cluster.Client.ListAsync<PciNode>(ct: ct)).Items;
        return nodes.Count == _cluster.Nodes.Count
            && nodes.All(n =>
            {
                var rules = (n.Spec.Rules ?? []).ToDictionary(r => r.Name);
                return rules.Count > 0
                    && n.Status?.ObservedGeneration == n.Metadata.Generation
                    && n.Status?.Devices?.Count > 0
                    && n.Status.Devices.Where(d => d is { Type: DeviceType.Pf, Rule: not null })
                        .All(d => rules[d.Rule!].Sriov?.NumVfs is not { } wanted || d.NumVfs == wanted);
            });
    }

    private Task<PassthroughClaim?> ClaimAsync(string name, CancellationToken ct) =>
        _cluster.Client.GetAsync<PassthroughClaim>(name, "default", ct);

    private async Task<IReadOnlyList<PassthroughClaim>> ClaimsAsync(CancellationToken ct) =>
        [.. (await _cluster.Client.ListAsync<PassthroughClaim>(ct: ct)).Items];

    /// <summary>One row a kind of device, one column a node: free of all.</summary>
    private async Task ShowNodesAsync(CancellationToken ct)
    {
        IList<PciNode> nodes = (await _cluster.Client.ListAsync<PciNode>(ct: ct)).Items;
        Table table = new Table().Border(TableBorder.Rounded).AddColumns("Device", "Spec");
        foreach (PciNode node in nodes)
            table.AddColumn(new TableColumn(node.Metadata.Name!).RightAligned());
        IOrderedEnumerable<IGrouping<(string VendorId, string ProductId, string? Rule, string? Name), PciNodeDevice>> kinds = nodes
            .SelectMany(n => (n.Status?.Devices ?? []).Where(d => d.Rule is not null))
            .GroupBy(d => (d.VendorId, d.ProductId, d.Rule, d.Name))
            .OrderBy(g => g.Key.Rule, StringComparer.Ordinal)
            .ThenBy(g => g.Key.ProductId, StringComparer.Ordinal);
        foreach (IGrouping<(string VendorId, string ProductId, string? Rule, string? Name), PciNodeDevice> kind in kinds)
        {
            table.AddRow([
                Markup.Escape(
                    $"{kind.Key.VendorId}:{kind.Key.ProductId} {kind.Key.Name?.Replace(" Corporation", "", StringComparison.Ordinal)}"
                ),
                Markup.Escape(kind.Key.Rule!),
                .. nodes
                    .Select(n =>
                        (n.Status?.Devices ?? [])
                            .Where(d => (d.VendorId, d.ProductId, d.Rule) == (kind.Key.VendorId, kind.Key.ProductId, kind.Key.Rule))
                            .ToList()
                    )
                    .Select(d => $"[green]{d.Count(x => x.State == DeviceState.Available)}[/] of {d.Count}"),
            ]);
        }

        _console.Write(table);
    }

    private async Task ShowClaimsAsync(CancellationToken ct)
    {
        Table table = new Table().Border(TableBorder.Rounded).AddColumns("Claim", "Phase", "Node", "Devices", "Driver");
        foreach (PassthroughClaim claim in await ClaimsAsync(ct))
        {
            string colour = claim.Status?.Conditions.IsTrue(Conditions.Ready) == true ? "green" : "red";
            table.AddRow(
                claim.Metadata.Name!,
                $"[{colour}]{claim.Status?.Phase}[/]",
                claim.Status?.NodeName ?? "-",
                string.Join(
                    "\n",
                    (claim.Status?.Devices ?? []).Select(d => d.Address + (d.Companion == true ? " [grey](companion)[/]" : ""))
                ),
                string.Join("\n", (claim.Status?.Devices ?? []).Select(d => d.Driver ?? "-"))
            );
        }

        _console.Write(table);
    }

    /// <summary>A pod as virt-controller makes it of a VM, as far as devices go.</summary>
    private static string Vm(string claim) =>
        $$"""
            apiVersion: v1
            kind: Pod
            metadata:
              name: vm-{{claim}}
              namespace: default
            spec:
              resourceClaims:
                - name: devices
                  resourceClaimName: {{claim}}
              containers:
                - name: compute
                  image: virt-launcher
                  resources:
                    claims:
                      - name: devices
                    requests:
                      cpu: "4"
            """;

    /// <summary>The node of a claim's VM, and what the VM has; null: it doesn't run yet.</summary>
    private async Task<(string Node, IReadOnlyList<PodDevice> Devices)?> DevicesOfAsync(string claim, CancellationToken ct)
    {
        V1Pod? pod = await _cluster.Client.GetAsync<V1Pod>("vm-" + claim, "default", ct);
        return
            pod?.Spec?.NodeName is { Length: > 0 } node
            && _cluster.Pods[node].Running.TryGetValue(pod.Metadata.Uid, out IReadOnlyList<PodDevice>? devices)
            ? (node, devices)
            : null;
    }

    /// <summary>Of a device's nodes the group's: /dev/vfio/vfio, /dev/iommu and the device's own are there, too.</summary>
    private static bool IsGroup(string node) =>
        node.StartsWith("/dev/vfio/", StringComparison.Ordinal) && char.IsAsciiDigit(node["/dev/vfio/".Length]);

    /// <summary>One row a VM, and whether it has what its claim says.</summary>
    private async Task ShowVmsAsync(IReadOnlyList<string> claims, CancellationToken ct)
    {
        Table table = new Table().Border(TableBorder.Rounded).AddColumns("VM", "Node", "Request", "Address", "Group that it opens");
        foreach (string name in claims)
        {
            if (await DevicesOfAsync(name, ct) is not { } vm)
                continue;
            PodDevice[] devices = [.. vm.Devices.OrderBy(d => d.Address, StringComparer.Ordinal)];
            table.AddRow(
                "vm-" + name,
                vm.Node,
                string.Join("\n", devices.Select(d => d.Request)),
                string.Join("\n", devices.Select(d => d.Address)),
                string.Join("\n", devices.Select(d => d.Nodes.Single(IsGroup)))
            );
            PassthroughClaim? claim = await ClaimAsync(name, ct);
            IEnumerable<string> held = (claim?.Status?.Devices ?? []).Select(d => d.Address).Order(StringComparer.Ordinal);
            string has = string.Join(", ", devices.Select(d => d.Address));
            string wanted = string.Join(", ", held);
            if (claim?.Status?.NodeName != vm.Node || has != wanted)
                _failures.Add($"vm-{name} on {vm.Node} has {has}, and its claim {wanted}");
        }

        _console.Write(table);
    }

    /// <summary>Asks the hosts, not the API server, whether the devices are where the claims say, and each in one claim only.</summary>
    private void CheckBound(IReadOnlyList<PassthroughClaim> claims)
    {
        var owners = new Dictionary<(string, string), string>();
        foreach (PassthroughClaim claim in claims.Where(c => c.Status?.NodeName is not null))
        {
            string node = claim.Status!.NodeName!;
            foreach (ClaimDevice device in claim.Status.Devices ?? [])
            {
                if (!owners.TryAdd((node, device.Address), claim.Metadata.Name!))
                    _failures.Add($"{device.Address} on {node} has two owners: {owners[(node, device.Address)]} and {claim.Metadata.Name}");
                string? driver = Driver(_cluster.Nodes[node].Host, device.Address);
                if (driver != "vfio-pci")
                    _failures.Add($"{device.Address} on {node} is bound to {driver ?? "nothing"}, not to vfio-pci");
            }
        }
    }

    private void CheckRestored(Dictionary<(string, string), string?> before, Dictionary<(string, string), string?> after)
    {
        foreach (((string, string) device, string? driver) in before)
        {
            if (after.GetValueOrDefault(device) != driver)
            {
                _failures.Add(
                    $"{device.Item2} on {device.Item1} was on {driver ?? "no driver"} and is on {after.GetValueOrDefault(device) ?? "none"}"
                );
            }
        }

        _console.MarkupLine($"  [green]{before.Count} functions on {_cluster.Nodes.Count} hosts are on the drivers that they were on.[/]");
    }

    private static Dictionary<(string, string), string?> WithVfs(
        Dictionary<(string, string), string?> before,
        Dictionary<(string, string), string?> now
    )
    {
        foreach (((string, string) device, string? driver) in now)
            before.TryAdd(device, driver);
        return before;
    }

    private Dictionary<(string, string), string?> Drivers() =>
        _cluster
            .Nodes.Values.SelectMany(n =>
                n.Host.Files.List("/sys/bus/pci/devices").Select(a => (Key: (n.Name, a), Driver: Driver(n.Host, a)))
            )
            .ToDictionary(p => p.Key, p => p.Driver);

    private static string? Driver(SimulatedHost host, string address) =>
        host.Files.ReadLink($"/sys/bus/pci/devices/{address}/driver") is { } link ? link[(link.LastIndexOf('/') + 1)..] : null;
}
