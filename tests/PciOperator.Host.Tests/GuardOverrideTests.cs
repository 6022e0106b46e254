using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>A person gives one device away although a guard refuses it.</summary>
public class GuardOverrideTests
{
    private static readonly PciAddress Igb = PciAddress.Parse(Lab.Igb);

    [Theory]
    [InlineData("8086:10c9", null, true)]
    [InlineData("8086:10C9", null, true)]
    [InlineData(null, "own", true)]
    [InlineData("8086:10c9", "own", true)]
    [InlineData("8086:1521", null, false)]
    [InlineData(null, "a0-36-9f-ff-ff-00-99-00", false)]
    [InlineData("8086:1521", "own", false)]
    [InlineData(null, null, false)]
    public async Task It_counts_while_the_device_is_the_one_that_was_meant(string? ids, string? serial, bool counts)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => f.Interfaces[0].Address = true);
        string own = lab.Seen(Lab.Igb).Function.StableId!["serial:".Length..^2];
        lab.Agent.GuardOverrides = [new GuardOverride(Igb, ids, serial == "own" ? own : serial)];
        HostFunction seen = lab.Seen(Lab.Igb);
        Assert.Equal(counts, seen.GuardReason is null);
        Assert.Equal(counts, seen.Overridden?.Contains("the address 172.17.0.5/24", StringComparison.Ordinal) == true);
        Assert.Equal(counts ? HoldingState.Prepared : HoldingState.Rejected, (await lab.Prepare("claim-1", Lab.Igb)).State);
        if (!counts)
            GuardTests.NothingWasDone(lab);
    }

    [Fact]
    public async Task It_ends_when_another_card_is_there_or_it_is_withdrawn()
    {
        var lab = new Lab();
        int changes = 0;
        lab.Agent.Changed += () => changes++;
        lab.Simulated.Change(Lab.Igb, f => f.Interfaces[0].Address = true);
        lab.Agent.GuardOverrides = [new GuardOverride(Igb, "8086:10c9", null)];
        lab.Agent.GuardOverrides = [new GuardOverride(Igb, "8086:10c9", null)];
        Assert.Equal(1, changes);
        Assert.Null(lab.Seen(Lab.Igb).GuardReason);
        lab.Simulated.Change(Lab.Igb, f => f.Ids = "8086:1521");
        Assert.Equal("NetworkUse", lab.Seen(Lab.Igb).GuardName);
        Assert.Equal(HoldingState.Rejected, (await lab.Prepare("claim-1", Lab.Igb)).State);
        lab.Simulated.Change(Lab.Igb, f => f.Ids = "8086:10c9");
        Assert.Null(lab.Seen(Lab.Igb).GuardReason);
        lab.Agent.GuardOverrides = [];
        Assert.Equal("NetworkUse", lab.Seen(Lab.Igb).GuardName);
        GuardTests.NothingWasDone(lab);
    }

    [Fact]
    public async Task Each_member_of_a_group_needs_its_own()
    {
        var lab = new Lab();
        lab.Simulated.Change("0000:24:00.2", f => f.Interfaces.Add(new SimulatedInterface { Name = "usb0", Address = true }));
        lab.Simulated.Change("0000:24:00.1", f => f.Interfaces.Add(new SimulatedInterface { Name = "usb1", Address = true }));
        lab.Agent.GuardOverrides = [new GuardOverride(PciAddress.Parse("0000:24:00.2"), "10de:1ad6", null)];
        Assert.StartsWith("0000:24:00.1", lab.Seen(Lab.Gpu).GuardReason, StringComparison.Ordinal);
        Assert.Equal(HoldingState.Rejected, (await lab.Prepare("claim-1", Lab.GpuFunctions)).State);
        GuardTests.NothingWasDone(lab);
        lab.Agent.GuardOverrides = [.. lab.Agent.GuardOverrides, new GuardOverride(PciAddress.Parse("0000:24:00.1"), "10de:10f7", null)];
        Assert.Null(lab.Seen(Lab.Gpu).GuardReason);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.GpuFunctions)).State);
    }

    [Fact]
    public async Task It_lets_a_claimed_disk_and_an_open_device_through()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Nvme, f => (f.Disks[0].MountedAt, f.Disks[0].Claimed) = ("/data", true));
        lab.Simulated.StartProcess("database", "/dev/nvme1n1");
        lab.Agent.GuardOverrides = [new GuardOverride(PciAddress.Parse(Lab.Nvme), "8086:0a54", null)];
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.Nvme)).State);
    }

    [Theory]
    [InlineData("HostView")]
    [InlineData("UnsafeNoIommu")]
    [InlineData("ForeignVfioBinding")]
    public async Task What_cannot_be_seen_or_belongs_to_somebody_else_is_not_overridden(string guard)
    {
        var lab = new Lab();
        lab.Agent.GuardOverrides = [new GuardOverride(Igb, "8086:10c9", null)];
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        if (guard == "HostView")
            lab.Simulated.SetAgentSeesHost(false);
        else if (guard == "UnsafeNoIommu")
            lab.Simulated.PutFile("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
        else
            lab.Simulated.Change(Lab.Igb, f => f.Driver = "vfio-pci");
        Assert.Equal(guard, lab.Seen(Lab.Igb).GuardName);
        Assert.Equal(HoldingState.Rejected, (await lab.Agent.PrepareAsync(request)).State);
        GuardTests.NothingWasDone(lab);
    }

    [Fact]
    public void A_drivers_devices_can_be_denied_and_allowed_again()
    {
        var lab = new Lab(options: new PassthroughHostOptions { DeniedDrivers = [.. DeniedDrivers.BuiltIn, "igb"] });
        Assert.Equal("DeniedDriver", lab.Seen(Lab.Igb).GuardName);
        Assert.Null(lab.Seen(Lab.X520).GuardReason);
        lab.Agent.GuardOverrides = [new GuardOverride(Igb, "8086:10c9", null)];
        Assert.Null(lab.Seen(Lab.Igb).GuardReason);
    }
}
