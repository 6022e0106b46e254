using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>A card below a port without ACS: the kernel puts its PF and its VFs into one IOMMU group.</summary>
public sealed class WholeGroupTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    [ClusterFact]
    public async Task A_PF_in_one_group_with_its_VFs_goes_when_they_are_gone_and_they_are_never_given_away()
    {
        await Cluster.CutPowerAsync(Hardware.Standard with { Nic1WithoutAcs = true });
        try
        {
            await Cluster.OfferAsync(
                "vfs",
                new(),
                NicVf,
                numVfs: 2,
                more: spec => spec.Devices = [new() { Address = Topology.Nic1 }, new() { VendorId = "8086", ProductId = "10ca" }]
            );
            await Cluster.Client.CreateAsync(
                new PciAlias
                {
                    Metadata = new() { Name = "pf" },
                    Spec = new() { Devices = [Nic] },
                }
            );
            PciNodeDevice vf = await Cluster.WaitForDeviceAsync(Topology.Nic1FirstVf, d => d.WithheldBy == WithheldWords.GroupHasPf);
            string group = await Machine.IommuGroupOfAsync(Topology.Nic1);
            Assert.Equal(group, await Machine.IommuGroupOfAsync(Topology.Nic1FirstVf));
            Assert.StartsWith(
                $"its IOMMU group {group} goes as a whole, and its PF {Topology.Nic1} is in it",
                vf.Reason,
                StringComparison.Ordinal
            );
            await Cluster.ClaimAsync("part", "vfs");
            await RefusalOfAsync("part", "Not offered: 2 (GroupHasPf)");

            await Cluster.ClaimAsync("whole", "pf");
            ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("whole")).Status!.Devices!);
            Assert.Equal(Topology.Nic1, device.Address);
            await AssertBoundAsync(Topology.Nic1, device.IommuGroup);
            await Machine.OutputOfAsync($"test ! -e /sys/bus/pci/devices/{Topology.Nic1FirstVf}");

            // As a virtual machine does: the kernel gives the group to nobody while a function in it is the host's.
            await HoldOpenAsync("hold", group, Topology.Nic1);
            await LetGoAsync();

            await Cluster.ReleaseAsync("whole");
            await AssertGivenBackAsync(Topology.Nic1, "igb");
            Assert.Equal("2", await Machine.SysfsAsync(Topology.Nic1, "sriov_numvfs"));
            Assert.Equal("igbvf", await Machine.DriverOfAsync(Topology.Nic1FirstVf));
        }
        finally
        {
            await Cluster.CutPowerAsync(Hardware.Standard);
        }
    }
}
