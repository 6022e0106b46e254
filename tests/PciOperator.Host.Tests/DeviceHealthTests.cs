using PciOperator.Testing;

namespace PciOperator.Host.Tests;

/// <summary>What is said of devices that don't answer, report errors, or run below what they can.</summary>
public class DeviceHealthTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly Lab _lab;

    public DeviceHealthTests() => _lab = new Lab(time: _time);

    [Fact]
    public void Healthy_devices_have_no_problems() => Assert.All(_lab.Agent.Scan().Functions, f => Assert.Empty(f.Problems));

    [Fact]
    public async Task A_device_that_reads_ffff_is_withheld_until_it_answers()
    {
        _lab.Simulated.Change(Lab.Nvme, f => f.OffTheBus = true);
        HostFunction nvme = _lab.Seen(Lab.Nvme);
        DeviceProblem problem = Assert.Single(nvme.Problems);
        Assert.Equal(("ConfigSpaceGone", "ConfigSpaceGone", problem.Message), (problem.Type, nvme.WithheldBy, nvme.Withheld));
        Assert.Equal(
            $"{Lab.Nvme} doesn't answer any more (its configuration space reads ffff): it has fallen off the bus. Look at its power and its seat; echo 1 > /sys/bus/pci/devices/{Lab.Nvme}/remove and echo 1 > /sys/bus/pci/rescan find it again, or a reboot does.",
            problem.Message
        );
        _lab.Simulated.Change(Lab.Nvme, f => f.OffTheBus = false);
        nvme = _lab.Seen(Lab.Nvme);
        Assert.Empty(nvme.Problems);
        Assert.Null(nvme.WithheldBy);

        // One with neither a link nor error counters, as a conventional device.
        _lab.Simulated.Change(Lab.Nvme, f => (f.OffTheBus, f.Link, f.Errors) = (true, null, null));
        Assert.Equal("ConfigSpaceGone", _lab.Seen(Lab.Nvme).WithheldBy);

        // While a claim holds it, its configuration space may be locked by a reset: the link tells.
        await _lab.Prepare("claim-1", Lab.X520);
        _lab.Simulated.Change(Lab.X520, f => f.OffTheBus = true);
        var configs = new List<string>();
        _lab.Simulated.Fault = a =>
        {
            if (a.Path.EndsWith("/config", StringComparison.Ordinal))
                configs.Add(a.Path);
        };
        Assert.Equal("ConfigSpaceGone", _lab.Seen(Lab.X520).Problems.Single().Type);
        Assert.DoesNotContain(configs, c => c.Contains(Lab.X520, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("suspended", "D3hot")]
    [InlineData("suspended", "D3cold")]
    [InlineData("active", "D3cold")]
    public void A_device_that_sleeps_is_not_woken(string status, string power)
    {
        _lab.Simulated.Change(
            Lab.Igb,
            f =>
            {
                (f.RuntimeStatus, f.PowerState, f.OffTheBus) = (status, power, true);
            }
        );
        _lab.Agent.Scan();
        var touched = new List<string>();
        _lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path.StartsWith($"/sys/bus/pci/devices/{Lab.Igb}/", StringComparison.Ordinal))
                touched.Add(a.Path[(a.Path.LastIndexOf('/') + 1)..]);
        };
        Assert.Empty(_lab.Seen(Lab.Igb).Problems);
        Assert.DoesNotContain(touched, t => t is "config" or "current_link_width" or "current_link_speed");
    }

    [Theory]
    [InlineData(4, 8.0, "runs with 4 of 8 lanes, below what it has had here")]
    [InlineData(
        4,
        2.5,
        "runs with 4 of 8 lanes and at 2.5 of 8.0 GT/s, below what it has had here: reseat the card, look at its riser and cable, and at the slot's settings in the BIOS (a device that saves power may also lower its speed)."
    )]
    [InlineData(8, 5.0, "runs at 5.0 of 8.0 GT/s, below what it has had here")]
    [InlineData(8, 8.0, null)]
    [InlineData(0, 0.0, null)]
    public void A_link_below_the_best_that_the_device_has_had_here_is_said(int width, double speed, string? says)
    {
        _lab.Agent.Scan();
        _lab.Simulated.Change(Lab.Nvme, f => (f.Link!.Width, f.Link.Speed) = (width, speed));
        HostFunction nvme = _lab.Seen(Lab.Nvme);
        Assert.Null(nvme.Withheld);
        if (says is null)
        {
            Assert.Empty(nvme.Problems);
            return;
        }

        DeviceProblem problem = Assert.Single(nvme.Problems);
        Assert.Equal("LinkDegraded", problem.Type);
        Assert.Contains($"{Lab.Nvme}: its PCIe link {says}", problem.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_slot_that_is_smaller_than_the_card_is_no_fault()
    {
        _lab.Simulated.Change(Lab.Nvme, f => (f.Link!.MaxWidth, f.Link.MaxSpeed) = (16, 16.0));
        Assert.Empty(_lab.Seen(Lab.Nvme).Problems);
    }

    [Fact]
    public void Lanes_that_a_device_never_had_here_are_no_loss()
    {
        // The port can do 16, and shares its lanes with the port beside it.
        _lab.Simulated.Change(Lab.Nvme, f => (f.Link!.MaxWidth, f.Link.Width, f.Link.Speed) = (16, 8, 5.0));
        _lab.Simulated.Change("0000:20:02.0", f => f.Link = new() { MaxWidth = 16, Width = 8 });
        Assert.Empty(_lab.Seen(Lab.Nvme).Problems);
        _lab.Simulated.Change(Lab.Nvme, f => (f.Link!.Width, f.Link.Speed) = (16, 8.0));
        Assert.Empty(_lab.Seen(Lab.Nvme).Problems);
        _lab.Simulated.Change(Lab.Nvme, f => f.Link!.Width = 8);
        Assert.Contains("with 8 of 16 lanes", _lab.Seen(Lab.Nvme).Problems.Single().Message, StringComparison.Ordinal);

        // Another card has its own history, and one whose serial number can't be read for once has the one it had.
        _lab.Simulated.Change(Lab.Igb, f => f.Link!.Width = 4);
        string? serial = _lab.Sim(Lab.Igb).Serial;
        Assert.Equal(["LinkDegraded"], Problems(_lab.Agent.Scan(fresh: true)));
        _lab.Simulated.Change(Lab.Igb, f => f.Serial = null);
        Assert.Equal(["LinkDegraded"], Problems(_lab.Agent.Scan(fresh: true)));
        _lab.Simulated.Change(Lab.Igb, f => f.Serial = "a0369fffff777777");
        Assert.Empty(Problems(_lab.Agent.Scan(fresh: true)));
        _lab.Simulated.Change(Lab.Igb, f => f.Serial = serial);
        Assert.Empty(Problems(_lab.Agent.Scan(fresh: true)));

        static IEnumerable<string> Problems(HostSnapshot seen) =>
            seen.Functions.Single(f => $"{f.Address}" == Lab.Igb).Problems.Select(p => p.Type);
    }

    [Fact]
    public void A_GPU_that_saves_power_is_no_fault_but_one_that_lost_lanes_is()
    {
        _lab.Simulated.Change(Lab.Gpu, f => f.Link!.Speed = 2.5);
        Assert.Empty(_lab.Seen(Lab.Gpu).Problems);
        _lab.Simulated.Change(Lab.Gpu, f => f.Link!.Width = 1);
        Assert.Equal(
            $"{Lab.Gpu}: its PCIe link runs with 1 of 8 lanes, below what it has had here: reseat the card, look at its riser and cable, and at the slot's settings in the BIOS.",
            _lab.Seen(Lab.Gpu).Problems.Single().Message
        );
    }

    [Fact]
    public void Errors_count_from_when_the_agent_first_saw_the_device_and_are_forgotten_after_an_hour()
    {
        _lab.Simulated.Change(Lab.Igb, f => f.Errors!.Nonfatal = 7);
        Assert.Empty(_lab.Seen(Lab.Igb).Problems);
        _lab.Simulated.Change(Lab.Igb, f => (f.Errors!.Nonfatal, f.Errors.Fatal) = (9, 1));
        DeviceProblem problem = Assert.Single(_lab.Seen(Lab.Igb).Problems);
        Assert.Equal(
            (
                "AerErrors",
                $"{Lab.Igb} reported 2 nonfatal and 1 fatal PCIe errors lately: dmesg | grep {Lab.Igb} says which; reseat the card, look at its riser and cable, and bring its firmware up to date."
            ),
            (problem.Type, problem.Message)
        );
        Assert.Null(_lab.Seen(Lab.Igb).Withheld);

        // The same words as long as nothing new comes: nothing is written again.
        _time.Advance(TimeSpan.FromMinutes(59));
        Assert.Equal(problem, _lab.Seen(Lab.Igb).Problems.Single());
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.Empty(_lab.Seen(Lab.Igb).Problems);
        _lab.Simulated.Change(Lab.Igb, f => f.Errors!.Nonfatal++);
        Assert.Contains("reported 1 nonfatal and 0 fatal", _lab.Seen(Lab.Igb).Problems.Single().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Another_card_at_the_address_begins_anew()
    {
        _lab.Simulated.Change(Lab.Igb, f => f.Errors!.Nonfatal = 7);
        _lab.Agent.Scan();
        _lab.Simulated.Change(Lab.Igb, f => (f.Ids, f.Errors!.Nonfatal) = ("8086:1521", 90));
        Assert.Empty(_lab.Seen(Lab.Igb).Problems);
        _lab.Simulated.Change(Lab.Igb, f => f.Errors!.Nonfatal = 3);
        Assert.Empty(_lab.Seen(Lab.Igb).Problems);
    }

    [Fact]
    public void Correctable_errors_are_said_only_while_they_come_fast()
    {
        Assert.False(ReportsAfter(minutes: 10, errors: 100), "ten a minute");
        Assert.False(ReportsAfter(minutes: 0, errors: 5000), "too short a time to tell");
        Assert.True(ReportsAfter(minutes: 10, errors: 1000), "600 a minute");
        Assert.Contains(
            "reports more than 60 correctable PCIe errors a minute",
            _lab.Seen(Lab.Igb).Problems.Single().Message,
            StringComparison.Ordinal
        );
        Assert.True(ReportsAfter(minutes: 10, errors: 100), "still ten a minute");
        Assert.False(ReportsAfter(minutes: 10, errors: 20), "over");
        Assert.False(ReportsAfter(minutes: 10, errors: 100), "ten a minute");
    }

    [Fact]
    public void Virtual_functions_and_bridges_are_not_looked_at()
    {
        var touched = new HashSet<string>();
        _lab.Agent.Scan();
        _lab.Simulated.Fault = a =>
        {
            if (a.Path.Contains("aer_dev", StringComparison.Ordinal) || a.Path.Contains("runtime_status", StringComparison.Ordinal))
                touched.Add(a.Path.Split('/')[5]);
        };
        HostSnapshot seen = _lab.Agent.Scan();
        Assert.Equal(
            seen.Functions.Where(f => !f.Function.IsBridge && f.Function.ParentAddress is null).Select(f => f.Address.ToString()),
            touched.Order(StringComparer.Ordinal)
        );
    }

    [Fact]
    public void What_cannot_be_read_is_no_problem()
    {
        _lab.Simulated.Fault = a =>
        {
            if (
                a.Path.Contains("aer_dev", StringComparison.Ordinal)
                || a.Path.Contains("link_", StringComparison.Ordinal)
                || a.Path.Contains("power", StringComparison.Ordinal)
                || a.Path.EndsWith("/config", StringComparison.Ordinal)
            )
            {
                throw new HostIoException("read", a.Path, Errnos.EIO);
            }
        };
        Assert.All(_lab.Agent.Scan().Functions, f => Assert.Empty(f.Problems));
    }

    private bool ReportsAfter(int minutes, int errors)
    {
        _lab.Agent.Scan();
        _time.Advance(TimeSpan.FromMinutes(minutes));
        _lab.Simulated.Change(Lab.Igb, f => f.Errors!.Correctable += errors);
        return _lab.Seen(Lab.Igb).Problems.Count > 0;
    }
}
