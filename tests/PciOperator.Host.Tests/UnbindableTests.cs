using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>What no VFIO driver of this kernel binds is known before it is taken, or after the first attempt.</summary>
public class UnbindableTests
{
    private const string Qat = "0000:26:00.0";
    private const string Parameter = "/sys/module/vfio_pci/parameters/disable_denylist";

    [Theory]
    [InlineData("8086:37c9", "6.12.0-sim", null, true)]
    [InlineData("8086:37c9", "6.12.0-sim", "N", true)]
    [InlineData("8086:37c9", "6.12.0-sim", "Y", false)]
    [InlineData("8086:37c8", "5.9.0", null, true)]
    [InlineData("8086:0443", "5.4.0-150-generic", null, false)]
    [InlineData("8086:0cfe", "6.10.2", "N", true)]
    [InlineData("8086:0cfe", "6.8.0", "N", false)]
    [InlineData("8086:4941", "6.12.0-sim", "N", false)]
    [InlineData("10de:37c9", "6.12.0-sim", "N", false)]
    public async Task What_is_on_the_drivers_own_denylist_is_known_at_the_scan(string ids, string kernel, string? parameter, bool refused)
    {
        Lab lab = WithQat(LabHosts.Builder().KernelVersion(kernel).Build(), ids);
        if (parameter is not null)
            lab.Simulated.PutFile(Parameter, parameter + "\n");
        HostFunction seen = lab.Seen(Qat);
        Assert.Equal(refused, seen.Unbindable is not null);
        Assert.Null(seen.Withheld);
        if (refused)
            Assert.Contains("disable_denylist=1", seen.Unbindable, StringComparison.Ordinal);
        Holding holding = await lab.Prepare("claim-1", Qat);
        Assert.Equal(
            refused ? (HoldingState.Rejected, HoldingReasons.Withheld, seen.Unbindable) : (HoldingState.Prepared, null, null),
            (holding.State, holding.Reason, holding.Message)
        );
        Assert.Equal(refused, lab.Simulated.Log.Count == 0);
    }

    [Theory]
    [InlineData("options vfio-pci disable_denylist=1", true)]
    [InlineData("  options vfio_pci ids=8086:10c9 disable_denylist=Y disable_idle_d3=1", true)]
    [InlineData("options vfio-pci disable_denylist", true)]
    [InlineData("#options vfio-pci disable_denylist=1", false)]
    [InlineData("options vfio-pci disable_denylist=0", false)]
    public void What_the_module_will_be_loaded_with_counts_before_it_is(string option, bool off)
    {
        Lab lab = WithQat(LabHosts.Builder().File("/etc/modprobe.d/vfio.conf", $"# x\n{option}\n").Build(), "8086:37c9");
        Assert.Equal(off, lab.Seen(Qat).Unbindable is null);
    }

    [Theory]
    [InlineData("vfio-pci.disable_denylist=1", true)]
    [InlineData("vfio_pci.disable_denylist", true)]
    [InlineData("vfio-pci.disable_denylist=0", false)]
    public void So_does_the_kernel_command_line(string word, bool off) =>
        Assert.Equal(off, WithQat(LabHosts.Builder().CommandLine(word).Build(), "8086:37c9").Seen(Qat).Unbindable is null);

    [Fact]
    public async Task What_only_takes_a_device_off_the_host_is_not_concerned()
    {
        Lab lab = WithQat(LabHosts.Create(), "8086:37c9");
        Assert.Equal(
            HoldingState.Prepared,
            (await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Driver = BindDriver.PciStub }, Qat))).State
        );
    }

    [Theory]
    [InlineData(Parameter, "Y")]
    [InlineData("/sys/module/vfio_pci/srcversion", "0123456789ABCDEF")]
    public async Task A_device_that_the_kernel_did_not_bind_is_not_taken_off_its_driver_again_until_something_changed(
        string setting,
        string changed
    )
    {
        var lab = new Lab();
        lab.Simulated.PutFile(Parameter, "N");
        lab.Simulated.PutFile("/sys/module/vfio_pci/srcversion", "FEDCBA9876543210");
        lab.Simulated.Change(Lab.Nvme, f => f.FailingDrivers.Add("vfio-pci"));
        Holding first = await lab.Prepare("claim-1", Lab.Nvme);
        Assert.Equal(HoldingReasons.BindFailed, first.Reason);
        int writes = lab.Simulated.Log.Count;
        foreach (Action next in new Action[] { () => { }, lab.RestartAgent, lab.Reboot })
        {
            next();
            string why = Assert.IsType<string>(lab.Seen(Lab.Nvme).Unbindable);
            Assert.StartsWith(first.Message!, why, StringComparison.Ordinal);
            Holding again = await lab.Prepare("claim-2", Lab.Nvme);
            Assert.Equal((HoldingState.Rejected, HoldingReasons.Withheld, why), (again.State, again.Reason, again.Message));
            Assert.Null(lab.Seen(Lab.Igb).Unbindable);
        }

        Assert.Equal(writes, lab.Simulated.Log.Count);
        lab.Simulated.Change(Lab.Nvme, f => f.FailingDrivers.Clear());
        lab.Simulated.PutFile(setting, changed);
        Assert.Null(lab.Seen(Lab.Nvme).Unbindable);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-3", Lab.Nvme)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-3"));
        lab.Simulated.PutFile(Parameter, "N");
        Assert.Null(lab.Seen(Lab.Nvme).Unbindable);
    }

    [Theory]
    [InlineData(Errnos.EINVAL, true)]
    [InlineData(Errnos.EBUSY, false)]
    [InlineData(Errnos.ENOMEM, false)]
    public async Task A_driver_that_says_so_itself_is_believed_and_an_error_of_the_moment_is_not(int errno, bool remembered)
    {
        var lab = new Lab();
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Path: SysfsPaths.DriversProbe } && lab.Sim(Lab.Nvme).Override == "vfio-pci")
                throw new HostIoException("write", a.Path, errno);
        };
        Assert.Equal(HoldingReasons.BindFailed, (await lab.Prepare("claim-1", Lab.Nvme)).Reason);
        Assert.Equal("nvme", lab.Sim(Lab.Nvme).Driver);
        lab.Simulated.Fault = null;
        Assert.Equal(remembered, lab.Seen(Lab.Nvme).Unbindable is not null);
    }

    [Fact]
    public async Task An_administrator_can_have_it_tried_again()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Nvme, f => f.FailingDrivers.Add("vfio-pci"));
        await lab.Prepare("claim-1", Lab.Nvme);
        lab.Simulated.Change(Lab.Nvme, f => f.FailingDrivers.Clear());
        Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse(Lab.Nvme)));
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.Nvme)).State);
    }

    private static Lab WithQat(SimulatedHost host, string ids)
    {
        var lab = new Lab(host);
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:20:04.0",
                Ids = "8086:2030",
                Class = 0x060400,
                HostDriver = "pcieport",
            }
        );
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = Qat,
                Ids = ids,
                Class = 0x0b4000,
                Bridge = "0000:20:04.0",
                HostDriver = "c6xxvf",
            }
        );
        return lab;
    }
}
