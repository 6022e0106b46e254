using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>What an agent finds out for itself before it takes a device, whatever it is told.</summary>
public sealed class AgentChecksTests
{
    private const string Node = "node-1";
    private const string Igb = "0000:21:00.0";
    private const string Gpu = "0000:24:00.0";
    private static readonly string[] WholeCard = [Gpu, "0000:24:00.1", "0000:24:00.2", "0000:24:00.3"];

    [Fact]
    public async Task A_device_that_no_rule_of_the_node_matches_is_refused_by_name()
    {
        await using LabCluster lab = await LabAsync();
        IReadOnlyDictionary<string, string?> before = LabCluster.DriversOf(lab.Host(Node));
        AssignmentStatus report = await AssignAsync(lab, [Rule("nic", "10c9")], Gpu, Igb);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.NotAllowed), (report.State, report.Reason));
        Assert.Contains($"No PciDeviceSpec of this node matches {Gpu},", report.Message, StringComparison.Ordinal);
        Assert.Equal([Gpu], report.Devices!.Select(d => d.Address));
        Assert.Equal(before, LabCluster.DriversOf(lab.Host(Node)));
    }

    [Theory]
    [InlineData(CompanionPolicy.Refuse, HoldingState.Rejected)]
    [InlineData(CompanionPolicy.Allow, HoldingState.Prepared)]
    public async Task Companions_go_along_where_the_rule_lets_them(CompanionPolicy policy, HoldingState expected)
    {
        await using LabCluster lab = await LabAsync();
        AssignmentStatus report = await AssignAsync(lab, [Rule("gpu", "1e04") with { Companions = policy }], WholeCard);
        Assert.Equal(expected, report.State);
        if (expected == HoldingState.Rejected)
            Assert.Equal(WholeCard[1..], report.Devices!.Select(d => d.Address));
    }

    [Fact]
    public async Task Companions_of_another_group_do_not_go_along()
    {
        await using LabCluster lab = await LabAsync();
        AssignmentStatus report = await AssignAsync(
            lab,
            [Rule("gpu", "1e04") with { Companions = CompanionPolicy.Allow }],
            [.. WholeCard, Igb]
        );
        Assert.Equal((HoldingState.Rejected, HoldingReasons.NotAllowed), (report.State, report.Reason));
        Assert.Equal([Igb], report.Devices!.Select(d => d.Address));
    }

    [Fact]
    public async Task A_device_that_is_not_there_is_said_to_be_gone()
    {
        await using LabCluster lab = await LabAsync();
        AssignmentStatus report = await AssignAsync(lab, [Rule("nic", "10c9")], "0000:77:00.0");
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DeviceGone), (report.State, report.Reason));
    }

    [Fact]
    public async Task A_rule_that_goes_takes_effect_when_the_device_is_free()
    {
        await using LabCluster lab = await LabAsync();
        Assert.Equal(HoldingState.Prepared, (await AssignAsync(lab, [Rule("nic", "10c9")], Igb)).State);
        await lab.Client.PatchAsync<PciNode>(Node, null, EntityPatch.Merge("""{"spec":{"rules":[]}}"""));
        await lab.UntilAsync(
            "the agent to see that",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status?.ObservedGeneration == n.Metadata.Generation
        );
        Assert.Equal("vfio-pci", lab.Driver(Node, Igb));
        Assert.Equal(HoldingState.Prepared, (await lab.Client.GetAsync<PciNode>(Node))!.Status!.Assignments![0].State);
    }

    [Theory]
    [InlineData("nvgrace_gpu_vfio_pci", BindDriver.VfioPci, true)]
    [InlineData("mlx5_vfio_pci", BindDriver.Auto, true)]
    [InlineData("pci-stub", BindDriver.PciStub, true)]
    [InlineData("pci-stub", BindDriver.VfioPci, false)]
    [InlineData("vfio-pci", BindDriver.PciStub, false)]
    public async Task An_administrators_device_is_offered_where_it_is_served(string driver, BindDriver wanted, bool fits)
    {
        await using LabCluster lab = await LabAsync();
        lab.Host(Node).Change(Igb, f => f.Driver = driver);
        PciNode node = NodeOf([Rule("nic", "10c9") with { Managed = false, Driver = wanted }], Igb, lab);
        node.Spec.Assignments = null;
        await lab.Client.CreateAsync(node);
        node = await lab.UntilAsync(
            "the device",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status?.Devices?.Any(d => d.Address == Igb) == true
        );
        PciNodeDevice seen = node.Status!.Devices!.Single(d => d.Address == Igb);
        Assert.Equal(
            (
                fits ? DeviceState.Available : DeviceState.Unavailable,
                fits
                    ? null
                    : $"its PciDeviceSpec says managed: false, and it is on {driver}: bind it to {(wanted == BindDriver.PciStub ? "pci-stub" : "vfio-pci")}"
            ),
            (seen.State, seen.Reason)
        );
    }

    [Fact]
    public async Task A_host_that_cannot_be_read_for_a_while_costs_a_claim_nothing_but_time()
    {
        await using LabCluster lab = await LabAsync();
        int pid = lab.Host(Node).StartProcess("worker", "/dev/nvme0n1");
        int faults = 0;
        lab.Host(Node).Fault = a =>
        {
            if (a.Before && a.Path == $"/proc/{pid}/fd/3" && Interlocked.Increment(ref faults) <= 10)
                throw new HostIoException("readlink", a.Path, Errnos.EACCES);
        };
        bool rejected = false;
        await lab.Client.CreateAsync(NodeOf([Rule("nic", "10c9")], Igb, lab));
        await lab.UntilAsync(
            "the device to be bound",
            () => lab.Client.GetAsync<PciNode>(Node),
            n =>
            {
                rejected |= n.Status?.Assignments?.Any(a => a.State == HoldingState.Rejected) == true;
                return n.Status?.Assignments?.Any(a => a.State == HoldingState.Prepared) == true;
            }
        );
        Assert.False(rejected);
        Assert.True(faults > 10);
    }

    private static async Task<LabCluster> LabAsync() =>
        await (await LabCluster.StartAsync(real: false, controller: false)).WithNodesAsync(1);

    private static async Task<AssignmentStatus> AssignAsync(LabCluster lab, IReadOnlyList<PciNodeRule> rules, params string[] addresses)
    {
        await lab.Client.CreateAsync(NodeOf(rules, addresses, lab));
        PciNode node = await lab.UntilAsync(
            "an answer",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status?.Assignments?.Any(a => a.State is HoldingState.Prepared or HoldingState.Rejected or HoldingState.Stuck) == true
        );
        return Assert.Single(node.Status!.Assignments!);
    }

    private static PciNode NodeOf(IReadOnlyList<PciNodeRule> rules, string address, LabCluster lab) => NodeOf(rules, [address], lab);

    private static PciNode NodeOf(IReadOnlyList<PciNodeRule> rules, string[] addresses, LabCluster lab) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = Node },
            Spec = new PciNodeSpec
            {
                Rules = rules,
                Assignments =
                [
                    new PciAssignment
                    {
                        ClaimUid = "6b1f0e9a-0000-4000-8000-000000000001",
                        ClaimNamespace = "default",
                        ClaimName = "vm",
                        Devices = [.. addresses.Select(a => Device(a, lab.Host(Node).Find(a)?.Ids ?? "8086:0001"))],
                    },
                ],
            },
        };

    private static AssignedDevice Device(string address, string ids) =>
        new()
        {
            Address = address,
            VendorId = ids.Split(':')[0],
            ProductId = ids.Split(':')[1],
        };

    private static PciNodeRule Rule(string name, string product) =>
        new() { Name = name, Devices = [new DeviceSelectorSpec { ProductId = product }] };
}
