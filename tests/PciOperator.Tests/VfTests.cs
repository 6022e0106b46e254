using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>Numbers of VFs as people see them: on the PciNode, with the real controller and agent.</summary>
public sealed class VfTests
{
    private const string Igb = "0000:21:00.0";

    [Fact]
    public async Task A_number_that_a_claim_blocks_is_said_on_the_PF_and_applied_when_the_claim_goes()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        await lab.ApplyAsync(Spec(2));
        await lab.ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: vf }
            spec: { devices: [{ vendorId: "8086", productId: "10ca", deviceType: type-VF }] }
            """
        );
        PciNode made = await VfsAsync(lab, 2);
        PciNodeDevice pf = Assert.Single(made.Status!.Devices!, d => d.Address == Igb);
        Assert.Equal((7, 2, null), (pf.TotalVfs, pf.NumVfs, pf.Reason));

        await lab.ClaimAsync("nic", "vf:1");
        PassthroughClaim claim = await lab.ReadyAsync("nic");
        await lab.ApplyAsync(Spec(4));
        string vf = Assert.Single(claim.Status!.Devices!).Address;
        await lab.UntilAsync(
            "the PF to say who blocks it",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => Pf(n)?.Reason?.Contains($"4 VFs wanted, has 2: VF {vf} is held by claim default/nic", StringComparison.Ordinal) == true
        );
        Assert.Equal("vfio-pci", lab.Driver("node-1", vf));

        await lab.DeleteAsync("nic");
        await lab.GoneAsync("nic");
        Assert.Null(Pf(await VfsAsync(lab, 4))!.Reason);

        // A spec that goes leaves the VFs as they are; a reboot does not, but a spec that stays makes them again.
        await lab.Cluster.Nodes["node-1"].StopAgentAsync();
        lab.Host("node-1").Reboot();
        await lab.Cluster.Nodes["node-1"].StartAgentAsync();
        // What the PciNode says of before the boot is true of the new VFs by chance only.
        string boot = lab.Host("node-1").BootId;
        await lab.UntilAsync("the agent's word of this boot", () => lab.Client.GetAsync<PciNode>("node-1"), n => n.Status?.BootId == boot);
        await VfsAsync(lab, 4);
        await lab.Client.DeleteAsync<PciDeviceSpec>("igb");
        await lab.UntilAsync(
            "no rule",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Spec.Rules is not { Count: > 0 } && n.Status?.ObservedGeneration == n.Metadata.Generation
        );
        Assert.Equal("4", lab.Host("node-1").Files.ReadText($"/sys/bus/pci/devices/{Igb}/sriov_numvfs"));
    }

    [Fact]
    public async Task A_claim_gets_its_VF_back_after_a_reboot_that_left_none()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        await lab.ApplyAsync(Spec(2));
        await lab.ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: vf }
            spec: { devices: [{ vendorId: "8086", productId: "10ca", deviceType: type-VF }] }
            """
        );
        await VfsAsync(lab, 2);
        await lab.ClaimAsync("nic", "vf:1");
        string vf = Assert.Single((await lab.ReadyAsync("nic")).Status!.Devices!).Address;
        await lab.Cluster.Nodes["node-1"].StopAgentAsync();
        lab.Host("node-1").Reboot();
        Assert.Null(lab.Host("node-1").Find(vf));
        string boot = lab.Host("node-1").BootId;
        await lab.Cluster.Nodes["node-1"].StartAgentAsync();
        await lab.UntilAsync(
            "the agent's word of this boot",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => n.Status?.BootId == boot && n.Status.Assignments?.SingleOrDefault()?.State == HoldingState.Prepared
        );
        PassthroughClaim claim = await lab.ReadyAsync("nic");
        Assert.Equal(vf, Assert.Single(claim.Status!.Devices!).Address);
        Assert.Empty(claim.Status.Refusals ?? []);
        Assert.Equal("vfio-pci", lab.Driver("node-1", vf));
    }

    [Fact]
    public async Task A_number_that_changed_while_the_PF_was_claimed_counts_after_its_release()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        await lab.ApplyAsync(Spec(2));
        await lab.ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: port }
            spec: { devices: [{ vendorId: "8086", productId: "10c9", deviceType: type-PF }] }
            """
        );
        await VfsAsync(lab, 2);
        await lab.ClaimAsync("whole", "port:1");
        await lab.ReadyAsync("whole");
        Assert.Equal("0", lab.Host("node-1").Files.ReadText($"/sys/bus/pci/devices/{Igb}/sriov_numvfs"));
        await lab.ApplyAsync(Spec(5));
        await lab.UntilAsync(
            "the PF to say who has it",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n =>
                Pf(n)?.Reason?.Contains("5 VFs wanted, has 0: the PF itself is held by claim default/whole", StringComparison.Ordinal)
                == true
        );
        await lab.DeleteAsync("whole");
        await lab.GoneAsync("whole");
        await VfsAsync(lab, 5);
    }

    [Fact]
    public async Task The_PF_and_all_its_VFs_are_published_by_one_write()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        using var stop = new CancellationTokenSource();
        var seen = new List<(int? NumVfs, int Vfs)>();
        PciNode node = (await lab.Client.GetAsync<PciNode>("node-1"))!;
        var cache = new WatchCache<PciNode>(lab.Client, options: new ListOptions { FieldSelector = "metadata.name=node-1" });
        cache.OnChange(_ =>
        {
            if (cache.Get("node-1") is { } now)
            {
                lock (seen)
                    seen.Add((Pf(now)?.NumVfs, Vfs(now)));
            }
        });
        Task watching = cache.RunAsync(stop.Token);
        await lab.ApplyAsync(Spec(7));
        await VfsAsync(lab, 7);
        await lab.UntilAsync(
            "the watch to have seen it",
            () => Task.FromResult<object?>(seen),
            _ =>
            {
                lock (seen)
                    return seen.Contains((7, 7));
            }
        );
        await stop.CancelAsync();
        await watching.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        await cache.DisposeAsync();
        Assert.All(seen, s => Assert.True(s is (null or 0, 0) or (7, 7), $"{s}"));
    }

    private static PciNodeDevice? Pf(PciNode node) => node.Status?.Devices?.FirstOrDefault(d => d.Address == Igb);

    private static int Vfs(PciNode node) => node.Status?.Devices?.Count(d => d.ParentAddress == Igb) ?? 0;

    private static Task<PciNode> VfsAsync(LabCluster lab, int count) =>
        lab.UntilAsync(
            $"{count} VFs",
            () => lab.Client.GetAsync<PciNode>("node-1"),
            n => Pf(n)?.NumVfs == count && Vfs(n) == count && n.Status!.Assignments is not { Count: > 0 }
        );

    private static string Spec(int vfs) =>
        $$"""
            apiVersion: pcioperator.io/v1alpha1
            kind: PciDeviceSpec
            metadata: { name: igb }
            spec:
              devices: [{ address: "{{Igb}}" }]
              sriov: { numVfs: {{vfs}} }
            """;
}
