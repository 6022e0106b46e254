using System.Text;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Claim to release against the sandbox's API server.</summary>
[Turns(3)]
public sealed class SandboxClaimLifecycleTests : ClaimLifecycleTests
{
    protected override Task<LabCluster> StartAsync() => LabCluster.StartAsync(real: false);
}

/// <summary>The same against a real one.</summary>
[Turns(15)]
public sealed class RealClaimLifecycleTests : ClaimLifecycleTests
{
    protected override Task<LabCluster> StartAsync() => LabCluster.StartAsync(real: true);
}

/// <summary>The same against k3s.</summary>
[Turns(5, first: 2)]
public sealed class K3sClaimLifecycleTests : ClaimLifecycleTests
{
    protected override Task<LabCluster> StartAsync() => LabCluster.StartAsync(real: true, start: TestApiServer.K3sAsync);
}

/// <summary>
/// The same against a real one, installed by <c>kubectl apply -k config</c> with strict validation: the controller and the
/// agents are the service accounts that this makes, with no rights but theirs.
/// </summary>
[Turns(15, first: 7)]
public sealed class InstalledClaimLifecycleTests : ClaimLifecycleTests
{
    protected override async Task<LabCluster> StartAsync() => await LabCluster.StartAsync(real: true, installed: true);
}

/// <summary>The main job, from claim to release: the real controller and agents, simulated hosts, and one of several API servers.</summary>
public abstract class ClaimLifecycleTests
{
    protected abstract Task<LabCluster> StartAsync();

    [TurnFact]
    public async Task A_claim_takes_its_devices_and_gives_them_back()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();

        await lab.ClaimAsync("router", "a1:2");
        PassthroughClaim claim = await lab.ReadyAsync("router");

        Assert.Equal(ClaimPhase.Allocated, claim.Status!.Phase);
        Assert.Equal("node-1", claim.Status.NodeName);
        Assert.Equal("a1:2", claim.Status.Summary!.Requests);
        Assert.Equal(2, claim.Status.Devices!.Count);
        Assert.All(
            claim.Status.Devices,
            d =>
            {
                Assert.Equal(
                    ("8086", "10ca", "r0", "vfio-pci", DeviceState.Allocated),
                    (d.VendorId, d.ProductId, d.Request, d.Driver, d.State)
                );
                Assert.Equal("vfio-pci", lab.Driver("node-1", d.Address));
            }
        );

        await lab.DeleteAsync("router");
        await lab.GoneAsync("router");
        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task A_card_of_four_functions_is_one_claim_and_its_group_goes_whole()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();

        await lab.ClaimAsync("render", "nv2080:1");
        PassthroughClaim claim = await lab.ReadyAsync("render");

        Assert.Equal(4, claim.Status!.Devices!.Count);
        Assert.Single(claim.Status.Devices, d => d.Companion != true);
        Assert.Single(claim.Status.Devices.Select(d => d.IommuGroup).Distinct());
        Assert.All(claim.Status.Devices, d => Assert.Equal("vfio-pci", lab.Driver("node-1", d.Address)));

        // The same card by its functions: the other card, and then there is none left.
        await lab.ClaimAsync("desktop", "nv2080vga:1,nv2080aud:1,nv2080usb:1,nv2080ucs:1");
        await lab.ReadyAsync("desktop");
        await lab.ClaimAsync("third", "nv2080:1");
        await lab.PendingAsync("third", "none free");
        await lab.NoDeviceHasTwoOwnersAsync();

        await lab.DeleteAsync("render");
        await lab.ReadyAsync("third");
        foreach (string name in new[] { "desktop", "third" })
        {
            await lab.DeleteAsync(name);
            await lab.GoneAsync(name);
        }

        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task A_port_and_its_virtual_functions_exclude_each_other()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ApplyAsync(Alias("port", "8086", "10c9", "type-PF"));
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();

        // One VF of each of the two ports is taken: no whole port is left.
        int ports = (await lab.InventoryAsync("node-1")).Status!.Devices!.Count(d => d is { ProductId: "10c9", Rule: not null });
        var vfs = (await lab.InventoryAsync("node-1"))
            .Status!.Devices!.Where(d => d.ProductId == "10ca")
            .GroupBy(d => d.ParentAddress)
            .ToList();
        Assert.Equal(2, ports);
        await lab.ClaimAsync("vfs", $"a1:{vfs[0].Count() + 1}");
        await lab.ReadyAsync("vfs");
        await lab.ClaimAsync("whole", "port:1");
        await lab.PendingAsync("whole", "node");
        await lab.DeleteAsync("vfs");

        // A whole port is taken with its free VFs removed first, and they are put back.
        PassthroughClaim whole = await lab.ReadyAsync("whole");
        string port = Assert.Single(whole.Status!.Devices!).Address;
        Assert.Equal("0", lab.Host("node-1").Files.ReadText($"/sys/bus/pci/devices/{port}/sriov_numvfs"));
        await lab.DeleteAsync("whole");
        await lab.GoneAsync("whole");
        await lab.GoneAsync("vfs");
        await lab.InventoryAsync("node-1");
        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task An_alias_means_any_of_its_devices_and_a_claim_all_of_its_requests()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: any-vf }
            spec:
              devices:
                - { vendorId: "8086", productId: "10ca", deviceType: type-VF }
                - { vendorId: "8086", productId: "154c", deviceType: type-VF }
            """
        );
        int free = (await lab.InventoryAsync("node-1")).Status!.Devices!.Count(d =>
            d is { Type: DeviceType.Vf, State: DeviceState.Available }
        );
        Assert.InRange(free, 2, 16);

        await lab.ClaimAsync("all", $"any-vf:{free}");
        await lab.ReadyAsync("all");
        await lab.ClaimAsync("one-more", "any-vf:1,nvme:1");
        PassthroughClaim waiting = await lab.PendingAsync("one-more", "none free");
        Assert.Equal(
            "0/1 nodes can serve it: ",
            waiting.Status!.Conditions.Find(Conditions.Scheduled)!.Message[.."0/1 nodes can serve it: ".Length]
        );

        await lab.DeleteAsync("all");
        await lab.ReadyAsync("one-more");
    }

    [TurnFact]
    public async Task Nodes_are_left_out_by_name_labels_cordon_taints_readiness_and_agent()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        Sandbox.Cluster.SimulatedKubelet kubelet = lab.Cluster.Nodes["node-1"].Kubelet;

        await lab.ClaimAsync("named", "nvme:1", s => s.NodeName = "elsewhere");
        await lab.PendingAsync("named", "node elsewhere");
        await lab.ClaimAsync("labelled", "nvme:1", s => s.NodeSelector = new Dictionary<string, string> { ["pool"] = "gpu" });
        await lab.PendingAsync("labelled", "node selector");
        await PatchNodeAsync(lab, """{"metadata":{"labels":{"pool":"gpu"}}}""");
        await lab.ReadyAsync("labelled");
        await lab.DeleteAsync("labelled");
        await lab.GoneAsync("labelled");

        await PatchNodeAsync(lab, """{"spec":{"unschedulable":true}}""");
        await SeenAsync(lab, "cordoned");
        await lab.ClaimAsync("cordoned", "nvme:1");
        await lab.PendingAsync("cordoned", "cordoned");
        await PatchNodeAsync(lab, """{"spec":{"unschedulable":false}}""");
        await lab.ReadyAsync("cordoned");
        await lab.DeleteAsync("cordoned");
        await lab.GoneAsync("cordoned");

        await PatchNodeAsync(lab, """{"spec":{"taints":[{"key":"gpu","value":"yes","effect":"NoSchedule"}]}}""");
        await SeenAsync(lab, "gpu=yes:NoSchedule");
        await lab.ClaimAsync("tainted", "nvme:1");
        await lab.PendingAsync("tainted", "gpu=yes:NoSchedule");
        await lab.ClaimAsync(
            "tolerant",
            "nvme:1",
            s => s.Tolerations = [new ClaimToleration { Key = "gpu", Operator = TolerationOperator.Exists }]
        );
        await lab.ReadyAsync("tolerant");
        await lab.DeleteAsync("tolerant");
        await lab.DeleteAsync("tainted");
        await lab.GoneAsync("tolerant");
        await PatchNodeAsync(lab, """{"spec":{"taints":null}}""");

        await kubelet.SetNodeReadyAsync(false);
        await SeenAsync(lab, "not Ready");
        await lab.ClaimAsync("unready", "nvme:1");
        await lab.PendingAsync("unready", "not Ready");
        await kubelet.SetNodeReadyAsync(true);
        await lab.ReadyAsync("unready");
        await lab.DeleteAsync("unready");
        await lab.GoneAsync("unready");

        await kubelet.SetAgentReadyAsync(false);
        await SeenAsync(lab, "no agent that is ready");
        await lab.ClaimAsync("agentless", "nvme:1");
        await lab.PendingAsync("agentless", "no agent that is ready");
        await kubelet.SetAgentReadyAsync(true);
        await lab.ReadyAsync("agentless");
    }

    [TurnFact]
    public async Task Claims_that_belong_together_come_to_one_node()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(3);
        await lab.WithSamplesAsync();

        await lab.ClaimAsync("gpu", "nv2080:1", s => s.CoLocateWith = ["nic"]);
        await lab.PendingAsync("gpu", "waits for claim nic");
        await lab.ClaimAsync("nic", "a1:1");
        PassthroughClaim nic = await lab.ReadyAsync("nic");
        PassthroughClaim gpu = await lab.ReadyAsync("gpu");
        Assert.Equal(nic.Status!.NodeName, gpu.Status!.NodeName);

        await lab.ClaimAsync("disk", "nvme:1", s => s.CoLocateWith = ["gpu", "nic"]);
        Assert.Equal(nic.Status.NodeName, (await lab.ReadyAsync("disk")).Status!.NodeName);
    }

    [TurnFact]
    public async Task What_an_agent_refuses_is_placed_again_elsewhere_and_the_claim_says_why()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(2);
        await lab.WithSamplesAsync();

        // Found out only when it comes to it: somebody has the drive open.
        await lab.ClaimAsync("first", "nvme:1");
        PassthroughClaim taken = await lab.ReadyAsync("first");
        await lab.DeleteAsync("first");
        await lab.GoneAsync("first");
        string node = taken.Status!.NodeName!;
        string drive = taken.Status.Devices![0].Address;
        lab.Host(node).StartProcess("fio", "/dev/" + Assert.Single(lab.Host(node).Files.List($"/sys/bus/pci/devices/{drive}/nvme")));
        {
            await lab.ClaimAsync("second", "nvme:1");
            PassthroughClaim second = await lab.ReadyAsync("second");
            Assert.NotEqual(node, second.Status!.NodeName);

            await lab.ClaimAsync("third", "nvme:1");
            PassthroughClaim third = await lab.PendingAsync("third", "node");
            ClaimRefusal refusal = Assert.Single(third.Status!.Refusals!);
            Assert.Equal((node, drive), (refusal.NodeName, Assert.Single(refusal.Addresses)));
            Assert.DoesNotContain("fio", refusal.Message, StringComparison.Ordinal);
            Assert.Contains($"({refusal.Reason}); PciNode {node} says more", refusal.Message, StringComparison.Ordinal);
            await lab.UntilAsync(
                "the PciNode's event",
                async () =>
                    (await lab.Client.ListAsync<Eventsv1Event>("default")).Items.FirstOrDefault(e =>
                        e.Regarding?.Kind == "PciNode" && e.Note?.Contains("fio", StringComparison.Ordinal) == true
                    ),
                _ => true
            );
        }
    }

    [TurnFact]
    public async Task A_node_that_is_removed_lets_its_claims_go_and_one_that_comes_back_settles()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("router", "a1:2");
        await lab.ReadyAsync("router");

        Sandbox.Cluster.SimulatedNode node = lab.Cluster.Nodes["node-1"];
        await node.StopAgentAsync();
        await node.Kubelet.RemoveAsync();
        await lab.PendingAsync("router", "0/");
        await lab.DeleteAsync("router");
        await lab.GoneAsync("router");
        while (await lab.Client.GetAsync<PciNode>("node-1") is not null)
            await Task.Delay(20);

        await node.StartAsync();
        await lab.InventoryAsync("node-1");
        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task A_spec_that_is_deleted_while_its_device_is_in_use_takes_effect_when_it_is_free()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("disk", "nvme:1");
        string drive = (await lab.ReadyAsync("disk")).Status!.Devices![0].Address;

        await lab.Client.DeleteAsync<PciDeviceSpec>("nvme-p4500");
        await lab.UntilAsync(
            "the rule to go",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Spec.Rules!.All(r => r.Name != "nvme-p4500") && n.Status!.ObservedGeneration == n.Metadata.Generation
        );
        Assert.Equal("vfio-pci", lab.Driver("node-1", drive));
        Assert.True((await lab.GetAsync("disk"))!.Status!.Conditions.IsTrue(Conditions.Ready));

        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");
        await lab.NothingIsStrandedAsync(before);
        await lab.ClaimAsync("again", "nvme:1");
        await lab.PendingAsync("again", "no device of alias nvme");
    }

    [TurnFact]
    public async Task A_PciNode_that_is_deleted_by_hand_stays_while_devices_are_given_away()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        string drive = (await lab.ReadyAsync("disk")).Status!.Devices![0].Address;
        string uid = (await lab.Client.GetAsync<PciNode>("node-1"))!.Metadata.Uid;

        await lab.Client.DeleteAsync<PciNode>("node-1");
        Assert.Equal("vfio-pci", lab.Driver("node-1", drive));
        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");

        // And then it is made again.
        await lab.UntilAsync(
            "a new PciNode",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Metadata.Uid != uid && n.Status?.Devices is { Count: > 0 }
        );
        await lab.ClaimAsync("again", "nvme:1");
        await lab.ReadyAsync("again");
    }

    [TurnFact]
    public async Task NUMA_policy_required_keeps_a_claim_on_one_NUMA_node()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("local", "nv2080:1,a1:1", s => s.NumaPolicy = NumaPolicy.Required);
        PassthroughClaim claim = await lab.ReadyAsync("local");
        Assert.Single(claim.Status!.Devices!.Where(d => d.Companion != true).Select(d => d.NumaNode).Distinct());
        Assert.Single(claim.Status.NumaNodes!);

        await lab.ClaimAsync(
            "nowhere",
            "nvme:1",
            s =>
            {
                s.NumaPolicy = NumaPolicy.Required;
                s.NumaNodes = [7];
            }
        );
        await lab.PendingAsync("nowhere", "NUMA policy required");
    }

    [TurnFact]
    public async Task Pci_stub_only_takes_a_device_from_the_host()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.Client.PatchAsync<PciDeviceSpec>("nvme-p4500", null, EntityPatch.Merge("""{"spec":{"driver":"pci-stub"}}"""));
        await lab.UntilAsync(
            "the rule to change",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Spec.Rules!.Any(r => r is { Name: "nvme-p4500", Driver: BindDriver.PciStub })
        );
        await lab.ClaimAsync("held", "nvme:1");
        PassthroughClaim held = await lab.UntilAsync(
            "claim held to be Prepared",
            () => lab.GetAsync("held"),
            c => c.Status?.Conditions.IsTrue(Conditions.Prepared) == true
        );
        Assert.False(held.Status!.Conditions.IsTrue(Conditions.Ready));
        Assert.Contains("pci-stub", held.Status.Conditions.Find(Conditions.Ready)!.Message, StringComparison.Ordinal);
        Assert.Equal("pci-stub", lab.Driver("node-1", held.Status.Devices![0].Address));
    }

    [TurnFact]
    public async Task What_an_administrator_binds_is_only_checked()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.Client.PatchAsync<PciDeviceSpec>("nvme-p4500", null, EntityPatch.Merge("""{"spec":{"managed":false}}"""));
        string drive = (await lab.InventoryAsync("node-1"))
            .Status!.Devices!.Single(d => d is { ProductId: "0a54", Rule: not null })
            .Address;
        await lab.UntilAsync(
            "the drive not to be offered",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n =>
                n.Status!.Devices!.Any(d =>
                    d.Address == drive && d.Reason?.Contains("managed: false, and it is on nvme", StringComparison.Ordinal) == true
                )
        );

        Host.IHostFileSystem files = lab.Host("node-1").Files;
        files.LoadModule("vfio-pci");
        files.Write($"/sys/bus/pci/devices/{drive}/driver_override", "vfio-pci\n");
        files.Write($"/sys/bus/pci/devices/{drive}/driver/unbind", drive);
        files.Write("/sys/bus/pci/drivers_probe", drive);
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");
        Assert.Equal("vfio-pci", lab.Driver("node-1", drive));
    }

    [TurnFact]
    public async Task The_Node_says_what_it_has_and_the_claim_has_events()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        await lab.UntilAsync(
            "the Node's condition",
            () => lab.Client.GetAsync<V1Node>("node-1"),
            n =>
                n.Status?.Conditions?.FirstOrDefault(c => c.Type == PciOperatorApi.NodeConditionType)
                    is { Status: "True", Message: { } message }
                && message.Contains("8086:0a54", StringComparison.Ordinal)
                && n.Status.Conditions.Any(r => r is { Type: "Ready", Status: "True" })
        );
        foreach (string reason in new[] { "Placed", "Prepared", "Ready" })
        {
            await lab.UntilAsync(
                $"event {reason}",
                async () =>
                    (await lab.Client.ListAsync<Eventsv1Event>("default")).Items.FirstOrDefault(e =>
                        e.Reason == reason && e.Regarding?.Name == "disk"
                    ),
                _ => true
            );
        }
    }

    [TurnFact]
    public async Task Nothing_is_written_while_nothing_changes()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");

        // Whatever still wants to be written is; then the agents look again at hosts that have not changed.
        string quiet = await VersionsAsync(lab);
        for (int stable = 0; stable < 10; stable++)
        {
            await Task.Delay(50);
            string now = await VersionsAsync(lab);
            stable = now == quiet ? stable : 0;
            quiet = now;
        }

        foreach (Sandbox.Cluster.SimulatedNode node in lab.Cluster.Nodes.Values)
            node.Host.Change(node.Host.Functions[0].Address, _ => { });
        await Task.Delay(500);
        Assert.Equal(quiet, await VersionsAsync(lab));
    }

    /// <summary>
    /// A claim that no node can serve says what is against them when it is made; once it says this, the change has reached the controller.
    /// </summary>
    private static async Task SeenAsync(LabCluster lab, string because)
    {
        for (int i = 0; ; i++)
        {
            string name = $"asking-{Guid.NewGuid():N}";
            await lab.ClaimAsync(name, "nvme:16");
            PassthroughClaim asking = await lab.PendingAsync(name, "0/");
            await lab.DeleteAsync(name);
            if (asking.Status!.Conditions.Find(Conditions.Scheduled)!.Message.Contains(because, StringComparison.Ordinal))
                return;
            Assert.True(i < 200, $"no claim says {because}");
        }
    }

    private static async Task<string> VersionsAsync(LabCluster lab)
    {
        var versions = new StringBuilder();
        foreach (PciNode node in (await lab.Client.ListAsync<PciNode>()).Items)
            versions.Append(node.Metadata.ResourceVersion).Append(' ');
        foreach (PassthroughClaim claim in (await lab.Client.ListAsync<PassthroughClaim>()).Items)
            versions.Append(claim.Metadata.ResourceVersion).Append(' ');
        foreach (V1Node node in (await lab.Client.ListAsync<V1Node>()).Items)
            versions.Append(node.Metadata.ResourceVersion).Append(' ');
        foreach (PciDeviceSpec spec in (await lab.Client.ListAsync<PciDeviceSpec>()).Items)
            versions.Append(spec.Metadata.ResourceVersion).Append(' ');
        return versions.ToString();
    }

    private static Task<V1Node> PatchNodeAsync(LabCluster lab, string patch) =>
        lab.Client.PatchAsync<V1Node>("node-1", null, EntityPatch.Merge(patch));

    private static string Alias(string name, string vendor, string product, string type) =>
        $$"""
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: {{name}} }
            spec:
              devices:
                - { vendorId: "{{vendor}}", productId: "{{product}}", deviceType: {{type}} }
            """;
}
