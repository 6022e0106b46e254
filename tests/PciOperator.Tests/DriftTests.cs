using System.Diagnostics;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Against the sandbox's API server.</summary>
public sealed class SandboxDriftTests(ITestOutputHelper output) : DriftTests(output)
{
    protected override Task<LabCluster> StartAsync() => LabCluster.StartAsync(real: false);
}

/// <summary>The same against a real one.</summary>
[Turns(8)]
public sealed class RealDriftTests(ITestOutputHelper output) : DriftTests(output)
{
    protected override Task<LabCluster> StartAsync() => LabCluster.StartAsync(real: true);
}

/// <summary>
/// Claimed devices that leave, move, are swapped or unbound: the claim and the PciNode say so, and nobody else's card is touched.
/// </summary>
public abstract class DriftTests(ITestOutputHelper output)
{
    private const string Node = "node-1";

    protected abstract Task<LabCluster> StartAsync();

    [TurnFact]
    public async Task A_claimed_device_that_is_pulled_out_is_said_on_claim_and_PciNode_and_comes_back_by_itself()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("disk", "nvme:1");
        string drive = (await lab.ReadyAsync("disk")).Status!.Devices![0].Address;
        SimulatedFunction card = lab.Host(Node).Find(drive)!;

        var unplugged = Stopwatch.StartNew();
        lab.Host(Node).Remove(drive);
        PciNode node = await lab.UntilAsync(
            "the PciNode to say so",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Any(d => d.Address == drive && d.State == DeviceState.Removed)
        );
        TimeSpan onNode = unplugged.Elapsed;
        PassthroughClaim claim = await TroubledAsync(lab, "disk", "DeviceGone");
        output.WriteLine($"after the unplug: PciNode {onNode.TotalMilliseconds:0} ms, claim {unplugged.Elapsed.TotalMilliseconds:0} ms");

        Assert.Contains(
            $"{drive}: a device is gone from the bus (DeviceGone)",
            claim.Status!.Conditions.Find(Conditions.Ready)!.Message,
            StringComparison.Ordinal
        );
        Assert.Equal("DeviceGone", claim.Status.Conditions.Find(Conditions.Prepared)!.Reason);
        Assert.Equal(DeviceState.Removed, claim.Status.Devices![0].State);
        node = await lab.UntilAsync(
            "the PciNode's condition",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Conditions.IsTrue(Conditions.DriftDetected)
        );
        Assert.Contains("default/disk", node.Status!.Conditions.Find(Conditions.DriftDetected)!.Message, StringComparison.Ordinal);
        await lab.ClaimAsync("other", "nvme:1");
        await lab.PendingAsync("other", "0/1 nodes");

        // Into the same slot again: nobody has to do anything.
        (card.Driver, card.Override) = (null, null);
        lab.Host(Node).Add(card);
        claim = await lab.ReadyAsync("disk");
        Assert.Equal(DeviceState.Allocated, claim.Status!.Devices![0].State);
        Assert.Equal("vfio-pci", lab.Driver(Node, drive));
        await lab.UntilAsync(
            "the drift to be over",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Conditions.Find(Conditions.DriftDetected)?.Status == "False"
        );
        await OneEventAsync(lab, "disk", "DeviceGone");

        await lab.DeleteAsync("other");
        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");
        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task A_claim_whose_device_is_gone_for_good_can_be_deleted()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("render", "nv2080:1");
        string gone = (await lab.ReadyAsync("render")).Status!.Devices![2].Address;
        lab.Host(Node).Remove(gone);
        await TroubledAsync(lab, "render", "DeviceGone");
        await lab.DeleteAsync("render");
        await lab.GoneAsync("render");
        Assert.All(lab.Host(Node).Functions, f => Assert.NotEqual("vfio-pci", f.Driver));
        Assert.Empty(lab.Host(Node).Files.List("/var/lib/pcioperator/journal"));
    }

    [TurnFact]
    public async Task Another_card_at_the_address_is_said_and_never_touched()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ApplyAsync(Port);
        await lab.ClaimAsync("router", "port:1");
        string port = (await lab.ReadyAsync("router")).Status!.Devices![0].Address;
        SimulatedFunction card = lab.Host(Node).Find(port)!;
        string? serial = card.Serial;
        lab.Host(Node).Remove(port);

        // A card of the same kind in the slot, and the claim's own in another.
        int writes = lab.Host(Node).Log.Count;
        lab.Host(Node)
            .Add(
                new SimulatedFunction
                {
                    Address = port,
                    Ids = card.Ids,
                    Class = card.Class,
                    Bridge = card.Bridge,
                    Group = card.Group,
                    HostDriver = "igb",
                    Serial = "a0369fffff777777",
                }
            );
        lab.Host(Node)
            .Add(
                new SimulatedFunction
                {
                    Address = "0000:22:01.0",
                    Ids = card.Ids,
                    Class = card.Class,
                    Bridge = "0000:20:01.0",
                    HostDriver = "igb",
                    Serial = serial,
                }
            );
        PassthroughClaim claim = await TroubledAsync(lab, "router", "DriftDetected");
        Assert.DoesNotContain("0000:22:01.0", claim.Status!.Conditions.Find(Conditions.Ready)!.Message, StringComparison.Ordinal);
        await lab.UntilAsync(
            "the PciNode to say where it is",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Assignments!.Any(a => a.Message?.Contains("is at 0000:22:01.0 now", StringComparison.Ordinal) == true)
        );
        PciNode node = await lab.UntilAsync(
            "the stranger to be marked",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Any(d => d.Address == port && d.State == DeviceState.Unavailable)
        );
        Assert.Contains(
            "claim default/router holds what was here",
            node.Status!.Devices!.Single(d => d.Address == port).Reason,
            StringComparison.Ordinal
        );

        await lab.DeleteAsync("router");
        await lab.GoneAsync("router");
        Assert.Equal("igb", lab.Driver(Node, port));
        Assert.DoesNotContain(
            lab.Host(Node).Log.Skip(writes),
            w => w.Path.Contains(port, StringComparison.Ordinal) && !w.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal)
        );
    }

    [TurnFact]
    public async Task A_device_that_somebody_unbinds_is_said_and_bound_again_when_its_guest_is_gone()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("render", "nv2080:1");
        PassthroughClaim claim = await lab.ReadyAsync("render");
        int? group = claim.Status!.Devices![0].IommuGroup;
        string audio = claim.Status.Devices[1].Address;
        int guest = lab.Host(Node).StartProcess("qemu-system-x86", $"/dev/vfio/{group}");
        lab.Host(Node).Change(audio, f => (f.Driver, f.Override) = (null, null));
        await lab.UntilAsync(
            "the PciNode to say who is in the way",
            () => lab.Client.GetAsync<PciNode>(Node),
            n =>
                n.Status!.Assignments!.Any(a =>
                    a.Reason == "NotBound" && a.Message?.Contains("qemu-system-x86", StringComparison.Ordinal) == true
                )
        );
        PassthroughClaim unbound = await lab.UntilAsync(
            "the claim to say so",
            () => lab.GetAsync("render"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "NotBound" }
        );
        Assert.DoesNotContain("qemu", unbound.Status!.Conditions.Find(Conditions.Ready)!.Message, StringComparison.Ordinal);
        Assert.Null(lab.Driver(Node, audio));
        lab.Host(Node).StopProcess(guest);
        await lab.ReadyAsync("render");
        Assert.Equal("vfio-pci", lab.Driver(Node, audio));
    }

    [TurnFact]
    public async Task A_device_that_a_guard_keeps_back_is_counted_to_the_claim_that_waits_for_it_and_named_on_the_PciNode()
    {
        await using LabCluster lab = await (await StartAsync()).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        string drive = (await lab.InventoryAsync(Node)).Status!.Devices!.Single(d => d is { ProductId: "0a54", Rule: not null }).Address;
        lab.Host(Node).Change(drive, f => f.Disks[0].MountedAt = "/data");
        await lab.UntilAsync(
            "the drive to be kept back",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Any(d => d.Address == drive && d.State == DeviceState.Unavailable)
        );
        await lab.ClaimAsync("disk", "nvme:1");
        PassthroughClaim waiting = await lab.PendingAsync("disk", "Not offered: 1 (the host keeps it); the PciNodes say why.");
        string message = waiting.Status!.Conditions.Find(Conditions.Scheduled)!.Message;
        output.WriteLine(message);
        Assert.DoesNotContain(drive, message, StringComparison.Ordinal);
        Assert.DoesNotContain("/data", message, StringComparison.Ordinal);
        PciNode node = (await lab.Client.GetAsync<PciNode>(Node))!;
        Assert.Contains("/data", node.Status!.Devices!.Single(d => d.Address == drive).Reason, StringComparison.Ordinal);

        lab.Host(Node).Change(drive, f => f.Disks[0].MountedAt = null);
        await lab.ReadyAsync("disk");
    }

    private static async Task<PassthroughClaim> TroubledAsync(LabCluster lab, string name, string reason) =>
        await lab.UntilAsync(
            $"claim {name} to say {reason}",
            () => lab.GetAsync(name),
            c => c.Status?.Conditions.Find(Conditions.Ready) is { Status: "False" } ready && ready.Reason == reason
        );

    private static async Task OneEventAsync(LabCluster lab, string claim, string reason)
    {
        async Task<List<Eventsv1Event>> EventsAsync() =>
            [.. (await lab.Client.ListAsync<Eventsv1Event>("default")).Items.Where(e => e.Reason == reason && e.Regarding?.Name == claim)];
        await lab.UntilAsync($"event {reason}", async () => (await EventsAsync()).FirstOrDefault(), _ => true);
        Eventsv1Event said = Assert.Single(await EventsAsync());
        Assert.Equal("Warning", said.Type);
        Assert.Null(said.Series);
    }

    private const string Port = """
        apiVersion: pcioperator.io/v1alpha1
        kind: PciAlias
        metadata: { name: port }
        spec:
          devices:
            - { vendorId: "8086", productId: "10c9", deviceType: type-PF }
        """;
}
