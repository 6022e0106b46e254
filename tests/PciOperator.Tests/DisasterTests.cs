using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// What docs/security.md says to do when something is lost, as a person does it: a real API server, installed by <c>kubectl apply -k
/// config</c>, the real controller and agents with their own tokens, and kubectl.
/// </summary>
[Turns(10)]
public sealed class DisasterTests(ITestOutputHelper output)
{
    private const string Node = "node-1";

    [TurnFact]
    public async Task An_etcd_that_was_restored_from_a_snapshot_needs_no_restart()
    {
        await using LabCluster lab = await InstalledAsync(nodes: 2, restorable: true);
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("kept", "a1:2");
        await lab.ClaimAsync("deleted-since", "nvme:1");
        PassthroughClaim kept = await lab.ReadyAsync("kept");
        await lab.ReadyAsync("deleted-since");

        await lab.Etcd!.SnapshotAsync();
        await lab.DeleteAsync("deleted-since");
        await lab.GoneAsync("deleted-since");
        await lab.ClaimAsync("made-since", "x520:1");
        PassthroughClaim since = await lab.ReadyAsync("made-since");
        await lab.Client.PatchAsync<PciDeviceSpec>(
            "nvme-p4500",
            null,
            EntityPatch.Merge("""{"metadata":{"labels":{"changed":"since"}}}""")
        );
        await lab.Etcd.RestoreAsync();

        // What has been made since is nobody's any more: the agent gives it back, by itself.
        DateTimeOffset restored = DateTimeOffset.UtcNow;
        Assert.Null(await lab.GetAsync("made-since"));
        string device = Assert.Single(since.Status!.Devices!, d => d.Companion != true).Address;
        await lab.UntilAsync(
            "the device of a claim that is gone to be given back",
            () => Task.FromResult(lab.Driver(since.Status.NodeName!, device)),
            d => d == before[since.Status.NodeName!][device],
            patience: TimeSpan.FromMinutes(5)
        );
        output.WriteLine($"given back {(DateTimeOffset.UtcNow - restored).TotalSeconds:0} s after the server was back");
        // What has been deleted since is there again, with its devices bound.
        await lab.UntilAsync(
            "the claim that is there again to be served",
            () => lab.GetAsync("deleted-since"),
            c =>
                c.Status?.Conditions.IsTrue(Conditions.Ready) == true
                && c.Status.Devices!.All(d => lab.Driver(c.Status.NodeName!, d.Address) == "vfio-pci"),
            patience: TimeSpan.FromMinutes(5)
        );
        // And what was there all the time has what it had.
        PassthroughClaim now = await lab.ReadyAsync("kept");
        Assert.Equal(kept.Status!.Devices!.Select(d => d.Address), now.Status!.Devices!.Select(d => d.Address));
        await lab.NoDeviceHasTwoOwnersAsync();

        // New work goes on, and everything can go.
        await lab.ClaimAsync("new", "x520:1");
        await lab.ReadyAsync("new");
        output.WriteLine($"all well {(DateTimeOffset.UtcNow - restored).TotalSeconds:0} s after the server was back");
        foreach (string name in new[] { "kept", "deleted-since", "new" })
        {
            await lab.DeleteAsync(name);
            await lab.GoneAsync(name);
        }

        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task A_state_folder_that_was_lost_costs_a_reboot_and_no_device()
    {
        await using LabCluster lab = await InstalledAsync(nodes: 1);
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("disk", "nvme:1");
        string drive = (await lab.ReadyAsync("disk")).Status!.Devices![0].Address;
        await lab.Cluster.Nodes[Node].StopAgentAsync();
        LoseState(lab);
        await lab.Cluster.Nodes[Node].StartAgentAsync();
        await lab.UntilAsync(
            "the claim not to be Ready",
            () => lab.GetAsync("disk"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "ForeignVfioBinding" }
        );

        // Others on that node are served meanwhile; the drive is offered to nobody.
        await lab.ClaimAsync("nic", "x520:1");
        await lab.ReadyAsync("nic");
        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");
        Assert.Equal("vfio-pci", lab.Driver(Node, drive));
        await lab.UntilAsync(
            "the drive to be withheld",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Single(d => d.Address == drive) is { State: DeviceState.Unavailable }
        );

        await lab.DeleteAsync("nic");
        await lab.GoneAsync("nic");
        await lab.Cluster.Nodes[Node].StopAgentAsync();
        lab.Host(Node).Reboot();
        await lab.Cluster.Nodes[Node].StartAgentAsync();
        await lab.UntilAsync(
            "the drive to be offered",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Single(d => d.Address == drive) is { State: DeviceState.Available }
        );
        await lab.ClaimAsync("again", "nvme:1");
        await lab.ReadyAsync("again");

        // Lost while nothing is held: nothing is to be done.
        await lab.DeleteAsync("again");
        await lab.GoneAsync("again");
        await lab.Cluster.Nodes[Node].StopAgentAsync();
        LoseState(lab);
        await lab.Cluster.Nodes[Node].StartAgentAsync();
        await lab.ClaimAsync("last", "nvme:1");
        await lab.ReadyAsync("last");
        await lab.DeleteAsync("last");
        await lab.GoneAsync("last");
        await lab.UntilAsync(
            "the VFs of before",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Assignments is not { Count: > 0 }
        );
        Assert.Equal(before[Node].Where(d => d.Key == drive), LabCluster.DriversOf(lab.Host(Node)).Where(d => d.Key == drive));
    }

    [TurnFact]
    public async Task CRDs_that_were_deleted_under_claims_let_the_devices_come_back_and_can_be_applied_again()
    {
        await using LabCluster lab = await InstalledAsync(nodes: 2);
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("nic", "a1:2");
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("nic");
        await lab.ReadyAsync("disk");

        await Kubectl.RunAsync(
            lab.KubeconfigText,
            "delete",
            "-k",
            Path.Combine(Kubectl.Repository, "config", "crds"),
            "--wait=true",
            "--timeout=120s"
        );
        foreach ((string name, IReadOnlyDictionary<string, string?> drivers) in before)
        {
            await lab.UntilAsync(
                $"{name}'s devices to be back",
                () => Task.FromResult<IReadOnlyDictionary<string, string?>?>(LabCluster.DriversOf(lab.Host(name))),
                now => now.SequenceEqual(drivers)
            );
        }

        foreach (string name in lab.Cluster.Nodes.Keys)
            await ConditionIsGoneAsync(lab, name);

        await Kubectl.RunAsync(lab.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        await ServesAsync(lab);
        await lab.NothingIsStrandedAsync(lab.Drivers());
    }

    [TurnFact]
    public async Task Objects_that_were_removed_by_force_leave_the_devices_with_the_journal_and_these_come_back()
    {
        await using LabCluster lab = await InstalledAsync(nodes: 1);
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("disk", "nvme:1");
        string drive = (await lab.ReadyAsync("disk")).Status!.Devices![0].Address;
        int process = lab.Host(Node)
            .StartProcess("qemu-system-x86", $"/dev/vfio/{(await lab.GetAsync("disk"))!.Status!.Devices![0].IommuGroup}");

        // Everything at once, and the finalizers by hand, as whoever has lost patience does.
        await Kubectl.RunAsync(lab.KubeconfigText, "delete", "-k", Path.Combine(Kubectl.Repository, "config", "crds"), "--wait=false");
        await Kubectl.RunAsync(lab.KubeconfigText, "patch", "ptc", "disk", "--type=merge", "-p", """{"metadata":{"finalizers":[]}}""");
        while (true)
        {
            (int code, _) = await Kubectl.TryAsync(
                lab.KubeconfigText,
                null,
                "patch",
                "pn",
                Node,
                "--type=merge",
                "-p",
                """{"metadata":{"finalizers":[]}}"""
            );
            if (code != 0 && (await Kubectl.TryAsync(lab.KubeconfigText, null, "get", "pn", Node)).Code != 0)
                break;
            await Task.Delay(100);
        }

        Assert.Equal("vfio-pci", lab.Driver(Node, drive));
        await lab.UntilAsync(
            "the CRDs to be gone",
            async () => (await Kubectl.TryAsync(lab.KubeconfigText, null, "get", "crd", "-o", "name")).Text,
            t => !t.Contains("pcioperator.io", StringComparison.Ordinal)
        );
        await Kubectl.RunAsync(lab.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");

        // While a guest has the device it stays; then it goes back, although no claim has ever said so.
        await lab.UntilAsync(
            "the agent to say what it holds",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status?.Assignments?.Any(a => a is { ClaimName: "disk", State: HoldingState.Releasing }) == true,
            patience: TimeSpan.FromMinutes(2)
        );
        Assert.Equal("vfio-pci", lab.Driver(Node, drive));
        lab.Host(Node).StopProcess(process);
        await lab.UntilAsync("the drive to be back", () => Task.FromResult(lab.Driver(Node, drive)), d => d == before[Node][drive]);
        await ServesAsync(lab);
    }

    [TurnFact]
    public async Task The_uninstall_takes_the_condition_from_Nodes_and_leaves_theirs()
    {
        await using LabCluster lab = await InstalledAsync(nodes: 2);
        foreach (string name in lab.Cluster.Nodes.Keys)
        {
            await lab.UntilAsync(
                $"{name}'s condition",
                () => lab.Client.GetAsync<V1Node>(name),
                n =>
                    n.Status!.Conditions!.Any(c =>
                        c
                            is {
                                Type: PciOperatorApi.NodeConditionType,
                                Status: "True",
                                LastHeartbeatTime: not null,
                                LastTransitionTime: not null
                            }
                    )
            );
        }

        // docs/uninstall.md, without claims. The specs stay here: it must not depend on their going first.
        await Kubectl.RunAsync(
            lab.KubeconfigText,
            "delete",
            "-k",
            Path.Combine(Kubectl.Repository, "config", "crds"),
            "--wait=true",
            "--timeout=120s"
        );
        foreach (string name in lab.Cluster.Nodes.Keys)
            await ConditionIsGoneAsync(lab, name);
        await Kubectl.RunAsync(lab.KubeconfigText, "delete", "-k", Path.Combine(Kubectl.Repository, "config", "program"), "--wait=false");
    }

    private static async Task<LabCluster> InstalledAsync(int nodes, bool restorable = false) =>
        await (
            await (await LabCluster.StartAsync(real: true, installed: true, restorable: restorable)).WithNodesAsync(nodes)
        ).WithSamplesAsync();

    private static async Task ServesAsync(LabCluster lab)
    {
        foreach (string name in lab.Cluster.Nodes.Keys)
        {
            await lab.UntilAsync(
                $"the PciNode of {name}",
                () => lab.Client.GetAsync<PciNode>(name),
                n => n.Status is not null,
                patience: TimeSpan.FromMinutes(5)
            );
        }

        await lab.WithSamplesAsync();
        await lab.ClaimAsync("served-again", "nvme:1");
        await lab.ReadyAsync("served-again");
        await lab.DeleteAsync("served-again");
        await lab.GoneAsync("served-again");
    }

    private static Task ConditionIsGoneAsync(LabCluster lab, string node) =>
        lab.UntilAsync(
            $"{node}'s condition to be gone",
            () => lab.Client.GetAsync<V1Node>(node),
            n =>
                n.Status!.Conditions!.All(c => c.Type != PciOperatorApi.NodeConditionType)
                && n.Status.Conditions!.Any(c => c is { Type: "Ready", Status: "True" })
        );

    private static void LoseState(LabCluster lab)
    {
        foreach (string file in lab.Host(Node).FilesBelow(SimulatedHost.StateDirectory).Keys)
            lab.Host(Node).RemoveFile(file);
    }
}
