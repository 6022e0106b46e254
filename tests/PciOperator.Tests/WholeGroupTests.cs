using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>A card without ACS above it, whose PF and VFs are one IOMMU group, from its spec to a claim's release.</summary>
[Turns(3)]
public sealed class WholeGroupTests
{
    private const string Node = "node-1";
    private const string Pf = "0000:82:00.0";
    private const string FirstVf = "0000:82:02.0";

    [TurnTheory]
    [InlineData(null)]
    [InlineData(2)]
    public async Task The_PF_is_served_without_its_VFs_and_these_are_never_offered(int? numVfs)
    {
        await using LabCluster lab = await LabAsync("""{ address: "0000:82:00.0" }, { productId: "154c", vendorId: "8086" }""", numVfs);
        int vfs = numVfs ?? 4;
        PciNode node = await VfsAsync(lab, vfs);
        Assert.All(
            node.Status!.Devices!.Where(d => d.ParentAddress == Pf),
            vf =>
            {
                Assert.Equal((DeviceState.Unavailable, WithheldWords.GroupHasPf, 77), (vf.State, vf.WithheldBy, vf.IommuGroup));
                Assert.StartsWith($"its IOMMU group 77 goes as a whole, and its PF {Pf} is in it", vf.Reason, StringComparison.Ordinal);
            }
        );
        PciNodeDevice pf = node.Status.Devices!.Single(d => d.Address == Pf);
        Assert.Equal(DeviceState.Available, pf.State);
        Assert.Equal(
            numVfs is null ? null : "its VFs are in its IOMMU group 77, so that they can't be given away by themselves",
            pf.Reason
        );
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();

        await lab.ClaimAsync("part", "vf:1");
        PassthroughClaim part = await lab.PendingAsync("part", $"Not offered: {vfs} (GroupHasPf)");
        Assert.Empty(part.Status!.Refusals ?? []);

        await lab.ClaimAsync("whole", "pf:1");
        Assert.Equal([Pf], (await lab.ReadyAsync("whole")).Status!.Devices!.Select(d => d.Address));
        Assert.Equal("vfio-pci", lab.Driver(Node, Pf));
        Assert.Null(lab.Host(Node).Find(FirstVf));

        await lab.DeleteAsync("whole");
        await lab.GoneAsync("whole");
        await VfsAsync(lab, vfs);
        await lab.NothingIsStrandedAsync(before);
    }

    [Fact]
    public async Task VFs_that_no_spec_matches_keep_nobody_from_their_PF()
    {
        await using LabCluster lab = await LabAsync("""{ address: "0000:82:00.0" }""", null);
        await lab.ClaimAsync("whole", "pf:1");
        await lab.ReadyAsync("whole");
    }

    [Fact]
    public async Task An_administrators_PF_is_not_offered_before_its_VFs_are_gone()
    {
        await using LabCluster lab = await LabAsync("""{ address: "0000:82:00.0" }""", null, "managed: false");
        lab.Host(Node).Change(Pf, f => f.Driver = "vfio-pci");
        await lab.UntilAsync(
            "the VFs to be in the way",
            () => lab.Client.GetAsync<PciNode>(Node),
            n =>
                n.Status?.Devices?.Any(d =>
                    d.Address == Pf
                    && d.State == DeviceState.Unavailable
                    && d.Reason?.Contains($"echo 0 > /sys/bus/pci/devices/{Pf}/sriov_numvfs", StringComparison.Ordinal) == true
                ) == true
        );
    }

    [Fact]
    public async Task An_alias_without_a_type_whose_ids_are_a_PFs_says_what_to_write()
    {
        await using LabCluster lab = await LabAsync("""{ address: "0000:82:00.0" }""", null);
        await lab.ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: untyped }
            spec: { devices: [{ vendorId: "8086", productId: "1572" }] }
            """
        );
        // By then the node's agent is known to be ready: a claim that no device is meant for is not looked at again for that.
        await lab.ClaimAsync("whole", "pf:1");
        await lab.ReadyAsync("whole");
        await lab.DeleteAsync("whole");
        await lab.GoneAsync("whole");
        await lab.ClaimAsync("nic", "untyped:1");
        await lab.PendingAsync("nic", "give deviceType: type-PF");
        await lab.UntilAsync(
            "the alias to say it too",
            () => lab.Client.GetAsync<PciAlias>("untyped"),
            a =>
                a.Status?.Conditions.Find(Conditions.Accepted)?.Message.Contains("give deviceType: type-PF", StringComparison.Ordinal)
                == true
        );
    }

    private static async Task<LabCluster> LabAsync(string devices, int? numVfs, string? more = null)
    {
        LabCluster lab = await LabCluster.StartAsync(real: false);
        await lab.Cluster.AddNodeAsync(Node, LabHosts.CreateWithoutAcs());
        await lab.ApplyAsync(
            $$"""
            apiVersion: pcioperator.io/v1alpha1
            kind: PciDeviceSpec
            metadata: { name: card }
            spec:
              devices: [{{devices}}]
            {{(numVfs is null ? "" : $"  sriov: {{ numVfs: {numVfs} }}")}}
            {{(more is null ? "" : "  " + more)}}
            """
        );
        foreach ((string alias, string product, string type) in new[] { ("pf", "1572", "type-PF"), ("vf", "154c", "type-VF") })
        {
            await lab.ApplyAsync(
                $$"""
                apiVersion: pcioperator.io/v1alpha1
                kind: PciAlias
                metadata: { name: {{alias}} }
                spec: { devices: [{ vendorId: "8086", productId: "{{product}}", deviceType: {{type}} }] }
                """
            );
        }

        return lab;
    }

    private static Task<PciNode> VfsAsync(LabCluster lab, int count) =>
        lab.UntilAsync(
            $"{count} VFs",
            () => lab.Client.GetAsync<PciNode>(Node),
            n =>
                n.Status?.Devices?.FirstOrDefault(d => d.Address == Pf) is { } pf
                && pf.NumVfs == count
                && pf.State == DeviceState.Available
                && n.Status.Devices!.Count(d => d.ParentAddress == Pf) == count
                && n.Status.Assignments is not { Count: > 0 }
        );
}
