using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

public class BindAndReleaseTests
{
    public static TheoryData<string[]> Devices =>
        new()
        {
            new[] { Lab.Igb },
            new[] { Lab.X520 },
            new[] { Lab.Nvme },
            new[] { Lab.X710 },
            new[] { Lab.X710Vf },
            Lab.GpuFunctions,
            new[] { Lab.Igb, Lab.Nvme, Lab.X710Vf },
        };

    [Theory]
    [MemberData(nameof(Devices))]
    public async Task A_claim_binds_its_devices_and_gives_each_back_to_its_own_driver(string[] addresses)
    {
        var lab = new Lab();
        string before = lab.Picture();
        string?[] drivers = [.. addresses.Select(a => lab.Sim(a).Driver)];

        Holding holding = await lab.Prepare("claim-1", addresses);

        Assert.Equal((HoldingState.Prepared, null, null), (holding.State, holding.Reason, holding.Message));
        Assert.Equal(addresses, holding.Devices.Select(d => d.Address.ToString()));
        Assert.Equal(drivers, holding.Devices.Select(d => d.OriginalDriver));
        Assert.All(holding.Devices, d => Assert.Equal("vfio-pci", d.Driver));
        Assert.All(holding.Devices, d => Assert.Equal($"/dev/vfio/{lab.Seen(d.Address.ToString()).Function.IommuGroup}", d.DeviceNode));
        Assert.All(holding.Devices, d => Assert.NotNull(d.VfioDeviceNode));
        Assert.Equal([holding], lab.Agent.Holdings);
        Assert.DoesNotContain(lab.Simulated.Log, w => w.Path.EndsWith("new_id", StringComparison.Ordinal));

        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Empty(lab.Agent.Holdings);
        Assert.Equal(before, lab.Picture());
    }

    [Fact]
    public async Task A_kernel_without_VFIO_groups_hands_out_iommufds_device_nodes()
    {
        var lab = new Lab();
        lab.Simulated.DropVfioGroups();
        string before = lab.Picture();
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal(HoldingState.Prepared, holding.State);
        Assert.All(holding.Devices, d => Assert.Null(d.DeviceNode));
        Assert.All(holding.Devices, d => Assert.StartsWith("/dev/vfio/devices/vfio", d.VfioDeviceNode, StringComparison.Ordinal));

        // A VMM that has it open is seen as through a group.
        int pid = lab.Simulated.StartProcess("qemu", holding.Devices[0].VfioDeviceNode!);
        Assert.Contains($"process {pid} (qemu)", (await lab.Agent.ReleaseAsync("claim-1"))!.Message, StringComparison.Ordinal);
        lab.Simulated.StopProcess(pid);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(before, lab.Picture());
    }

    [Fact]
    public async Task A_PF_loses_its_VFs_while_it_is_claimed_and_has_them_again_afterwards()
    {
        var lab = new Lab();
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.X710)).State);
        Assert.Equal(0, lab.Sim(Lab.X710).Sriov!.NumVfs);
        Assert.Null(lab.Simulated.Find(Lab.X710Vf));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(4, lab.Sim(Lab.X710).Sriov!.NumVfs);
        Assert.Equal("iavf", lab.Sim(Lab.X710Vf).Driver);
    }

    [Fact]
    public async Task Preparing_what_is_prepared_writes_nothing_and_releasing_what_is_not_held_says_so()
    {
        var lab = new Lab();
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        Holding first = await lab.Agent.PrepareAsync(request);
        int writes = lab.Simulated.Log.Count;
        int changes = 0;
        lab.Agent.Changed += () => changes++;
        Assert.Equal(first, await lab.Agent.PrepareAsync(request));
        Assert.Equal(writes, lab.Simulated.Log.Count);
        Assert.Equal(0, changes);
    }

    [Fact]
    public async Task What_was_set_before_is_set_again()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => f.Override = "igb");
        lab.Simulated.Change(Lab.Nvme, f => f.Driver = null);
        lab.Simulated.Change(Lab.X520, f => f.Override = "pci-stub");
        string before = lab.Picture();
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.Igb, Lab.Nvme, Lab.X520)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(before, lab.Picture());
    }

    [Fact]
    public async Task A_device_can_be_only_taken_from_the_host()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", d => d with { Driver = BindDriver.PciStub }, Lab.Igb);
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal(HoldingState.Prepared, holding.State);
        Assert.Equal(("pci-stub", null), (holding.Devices[0].Driver, holding.Devices[0].DeviceNode));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("igb", lab.Sim(Lab.Igb).Driver);
    }

    [Fact]
    public async Task An_administrators_device_is_checked_and_reset_and_never_bound()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", d => d with { Managed = false }, Lab.Igb);
        Holding refused = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.NotBound), (refused.State, refused.Reason));

        lab.Simulated.Files.LoadModule("vfio-pci");
        lab.Simulated.Change(Lab.Igb, f => (f.Driver, f.Override) = ("vfio-pci", "vfio-pci"));
        Assert.Equal(HoldingReasons.ForeignVfioBinding, lab.Seen(Lab.Igb).GuardName);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.All(lab.Simulated.Log, w => Assert.Contains("/reset", w.Path, StringComparison.Ordinal));
        Assert.Equal("vfio-pci", lab.Sim(Lab.Igb).Driver);
    }

    [Fact]
    public async Task Release_waits_while_a_process_has_the_group_open()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        int vm = lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        Holding? waiting = await lab.Agent.ReleaseAsync("claim-1");
        Assert.Equal((HoldingState.Releasing, HoldingReasons.InUse), (waiting!.State, waiting.Reason));
        Assert.Contains(
            $"process {vm} (qemu-system-x86) has {holding.Devices[0].DeviceNode} open",
            waiting.Message,
            StringComparison.Ordinal
        );
        Assert.Equal("vfio-pci", lab.Sim(Lab.Gpu).Driver);
        lab.Simulated.StopProcess(vm);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("nouveau", lab.Sim(Lab.Gpu).Driver);
    }

    [Fact]
    public async Task Claims_of_different_groups_are_worked_on_at_the_same_time()
    {
        var lab = new Lab();
        string before = lab.Picture();
        string[] vfs = [.. lab.Simulated.Functions.Where(f => f.PhysFn == Lab.X710).Select(f => f.Address)];
        string[][] claims = [.. vfs.Select(vf => new[] { vf }), [Lab.Igb], [Lab.X520], [Lab.Nvme], Lab.GpuFunctions];
        AssignmentRequest[] requests = [.. claims.Select((devices, i) => lab.Request($"claim-{i}", devices))];
        Holding[] holdings = await Task.WhenAll(requests.Select(r => lab.Agent.PrepareAsync(r)));
        Assert.All(holdings, h => Assert.Equal((HoldingState.Prepared, null), (h.State, h.Message)));
        Assert.Equal(claims.Length, lab.Agent.Holdings.Count);
        Holding?[] released = await Task.WhenAll(requests.Select(r => lab.Agent.ReleaseAsync(r.ClaimUid)));
        Assert.All(released, Assert.Null);
        Assert.Equal(before, lab.Picture());
    }

    [Fact]
    public async Task One_device_has_one_owner()
    {
        var lab = new Lab();
        AssignmentRequest[] requests = [.. Enumerable.Range(0, 8).Select(i => lab.Request($"claim-{i}", Lab.GpuFunctions))];
        Holding[] holdings = await Task.WhenAll(requests.Select(r => lab.Agent.PrepareAsync(r)));
        Holding owner = Assert.Single(holdings, h => h.State == HoldingState.Prepared);
        Assert.All(
            holdings.Where(h => h != owner),
            h => Assert.Equal((HoldingState.Rejected, HoldingReasons.OwnedByOther), (h.State, h.Reason))
        );
        Assert.Contains($"lab/{owner.ClaimUid}", holdings.First(h => h != owner).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_PF_and_its_VFs_never_have_two_owners()
    {
        var lab = new Lab();
        AssignmentRequest pf = lab.Request("pf", Lab.X710),
            vf = lab.Request("vf", Lab.X710Vf);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(vf)).State);
        Holding refused = await lab.Agent.PrepareAsync(pf);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.OwnedByOther), (refused.State, refused.Reason));
        Assert.Null(await lab.Agent.ReleaseAsync("vf"));
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(pf)).State);
        Assert.Equal(HoldingReasons.DeviceGone, (await lab.Agent.PrepareAsync(vf)).Reason);
    }

    [Fact]
    public async Task A_claim_that_changed_its_devices_must_be_released_first()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Igb);
        Holding holding = await lab.Prepare("claim-1", Lab.X520);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.AssignmentChanged), (holding.State, holding.Reason));
        Assert.Equal("ixgbe", lab.Sim(Lab.X520).Driver);
    }

    [Fact]
    public async Task The_module_is_loaded_when_the_driver_is_not_there()
    {
        var lab = new Lab();
        Assert.Equal((false, true), (lab.Agent.Scan().Vfio.Loaded, lab.Agent.Scan().Vfio.Loadable));
        await lab.Prepare("claim-1", Lab.Igb);
        Assert.True(lab.Agent.Scan().Vfio is { Loaded: true, ControlNode: true });

        var without = new Lab(LabHosts.Builder().WithoutModule("vfio-pci").Build());
        Holding refused = await without.Prepare("claim-1", Lab.Igb);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.VfioUnavailable), (refused.State, refused.Reason));
        Assert.Contains("modprobe vfio-pci failed", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Wrong_requests_are_refused_with_a_sentence()
    {
        var lab = new Lab();
        AssignmentRequest good = lab.Request("claim-1", Lab.Igb);
        foreach (
            AssignmentRequest bad in new[]
            {
                good with
                {
                    ClaimUid = "../../etc/passwd",
                },
                good with
                {
                    Devices = [],
                },
                good with
                {
                    Devices = [good.Devices[0], good.Devices[0]],
                },
                lab.Request("claim-1", "0000:20:00.0"),
                lab.Request("claim-1", Lab.X710, Lab.X710Vf),
            }
        )
        {
            Holding holding = await lab.Agent.PrepareAsync(bad);
            Assert.Equal((HoldingState.Rejected, HoldingReasons.InvalidRequest), (holding.State, holding.Reason));
        }

        Assert.Empty(lab.Simulated.Log);
    }
}
