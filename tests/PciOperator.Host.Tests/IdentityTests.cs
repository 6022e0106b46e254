using System.Text;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// Who is who: serial numbers that can't be read, read otherwise, or are the same on two cards; nothing dirty is offered by it, and nothing
/// is forgotten.
/// </summary>
public class IdentityTests
{
    private const string Vpd = "/sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0/vpd";
    private const string VpdOfIgb = $"/sys/bus/pci/devices/{Lab.Igb}/vpd";
    private const string RealtekDsn = "01000000684ce000";
    private static readonly string Records = $"{SimulatedHost.StateDirectory}/devices";
    private static readonly string JournalOfClaim = $"{SimulatedHost.StateDirectory}/journal/claim-1.json";

    [Fact]
    public void Vital_product_data_and_device_serial_number_are_different_kinds_of_identity()
    {
        Lab lab = WithVpd();
        Assert.Equal("vpd:MT2031X00001.0", lab.Seen(Lab.Igb).Function.StableId);
        Unreadable(lab);

        // It was seen by this agent, and the card's other number is still the same; the next agent knows that other one only.
        Assert.Equal(
            "vpd:MT2031X00001.0",
            lab.Agent.Scan(fresh: true).Functions.Single(f => f.Address == PciAddress.Parse(Lab.Igb)).Function.StableId
        );
        lab.RestartAgent();
        Assert.Equal("serial:a0-36-9f-ff-ff-00-21-00.0", lab.Seen(Lab.Igb).Function.StableId);
    }

    [Theory]
    [InlineData(Errnos.ETIMEDOUT, ResetMode.BestEffort)]
    [InlineData(Errnos.EIO, ResetMode.Required)]
    [InlineData(0, ResetMode.Required)]
    public async Task A_card_whose_vpd_cannot_be_read_at_release_is_reset_and_put_back(int errno, ResetMode mode)
    {
        Lab lab = WithVpd();
        string picture = lab.Picture();
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = mode }, Lab.Igb));
        ResetTests.Soil(lab, holding);
        Assert.True(lab.Sim(Lab.Igb).Dirty);
        if (errno == 0)
            lab.Simulated.PutFile(Vpd, "\u007f garbage");
        else
            Unreadable(lab, errno);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(("igb", null, false), (lab.Sim(Lab.Igb).Driver, lab.Sim(Lab.Igb).Override, lab.Sim(Lab.Igb).Dirty));
        Assert.Equal(picture, lab.Picture());
    }

    [Theory]
    [InlineData("a0369fffff777777", ResetMode.BestEffort)]
    [InlineData("a0369fffff777777", ResetMode.Required)]
    [InlineData(null, ResetMode.Required)]
    public async Task A_serial_number_that_reads_otherwise_at_release_decides_nothing(string? serial, ResetMode mode)
    {
        var lab = new Lab();
        string picture = lab.Picture();
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = mode }, Lab.Igb));
        ResetTests.Soil(lab, holding);
        lab.Simulated.Change(Lab.Igb, f => f.Serial = serial);
        lab.Agent.Scan(fresh: true);
        lab.RestartAgent();
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.False(lab.Sim(Lab.Igb).Dirty);
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task Vpd_that_cannot_be_read_between_scan_and_bind_or_while_it_is_bound_is_no_drift()
    {
        Lab lab = WithVpd();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        Unreadable(lab);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        foreach (bool restart in new[] { false, true })
        {
            if (restart)
                lab.RestartAgent();
            await lab.Agent.RecoverAsync();
            lab.Agent.Scan(fresh: true);
            Assert.Equal(HoldingState.Prepared, Assert.Single(lab.Agent.Holdings).State);
            Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        }

        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("igb", lab.Sim(Lab.Igb).Driver);
    }

    [Fact]
    public async Task Another_card_is_seen_by_the_number_that_can_be_read()
    {
        Lab lab = WithVpd();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        lab.Simulated.PutFile(Vpd, VpdWith("MT2031X00002"));
        Assert.Equal(HoldingReasons.DriftDetected, (await lab.Agent.PrepareAsync(request)).Reason);
    }

    [Fact]
    public async Task Cards_with_one_serial_number_between_them_have_identities_of_their_own()
    {
        Lab lab = WithTwins();
        List<string?> ids =
        [
            .. lab.Agent.Scan().Functions.Where(f => f.Function.VendorId == PciId.Parse("10ec")).Select(f => f.Function.StableId),
        ];
        Assert.Equal(
            ["serial:01-00-00-00-68-4c-e0-00.0@path:pci0000:20/04.0/00.0", "serial:01-00-00-00-68-4c-e0-00.0@path:pci0000:20/05.0/00.0"],
            ids
        );
        Assert.Equal(
            ids,
            lab.Agent.Scan(fresh: true).Functions.Where(f => f.Function.VendorId == PciId.Parse("10ec")).Select(f => f.Function.StableId)
        );

        // The first stays dirty; the second is reset, and says nothing of the first.
        Holding first = await lab.Prepare("claim-1", "0000:26:00.0");
        Assert.Equal(
            HoldingState.Prepared,
            (await lab.Agent.PrepareAsync(lab.Request("claim-2", d => d with { OneTimeUse = true }, "0000:27:00.0"))).State
        );
        ResetTests.Soil(lab, first);
        lab.Simulated.Change(
            "0000:26:00.0",
            f =>
                f.FailingResets = new()
                {
                    ["flr"] = Errnos.EIO,
                    ["bus"] = Errnos.EIO,
                    ["vfio hot reset"] = Errnos.EIO,
                }
        );
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        foreach (bool restart in new[] { false, true })
        {
            if (restart)
                lab.RestartAgent();
            Assert.Equal(("NotClean", "UsedOnce"), (lab.Seen("0000:26:00.0").WithheldBy, lab.Seen("0000:27:00.0").WithheldBy));
        }

        Assert.False(lab.Agent.ClearUsedOnce(PciAddress.Parse("0000:26:00.0")));
        Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse("0000:27:00.0")));
        Assert.Equal(("NotClean", null), (lab.Seen("0000:26:00.0").WithheldBy, lab.Seen("0000:27:00.0").WithheldBy));
    }

    [Fact]
    public async Task A_twin_that_comes_later_takes_nothing_of_the_first()
    {
        Lab lab = WithTwins(second: false);
        await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { OneTimeUse = true }, "0000:26:00.0"));
        lab.Simulated.Add(Realtek("0000:27:00.0", "0000:20:05.0"));
        lab.Agent.Scan(fresh: true);
        Assert.Equal(HoldingState.Prepared, Assert.Single(lab.Agent.Holdings).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(("UsedOnce", null), (lab.Seen("0000:26:00.0").WithheldBy, lab.Seen("0000:27:00.0").WithheldBy));
        lab.RestartAgent();
        Assert.Equal(("UsedOnce", null), (lab.Seen("0000:26:00.0").WithheldBy, lab.Seen("0000:27:00.0").WithheldBy));
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", "0000:27:00.0")).State);
        Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse("0000:26:00.0")));
    }

    /// <summary>
    /// Socket Direct: one card with two plugs, which shows itself on two buses with one VPD and one Device Serial Number.
    /// </summary>
    [Fact]
    public async Task A_card_in_two_slots_has_an_identity_in_each()
    {
        Lab lab = WithTwins();
        foreach (string place in new[] { "20:04.0/0000:26:00.0", "20:05.0/0000:27:00.0" })
            lab.Simulated.PutFile($"/sys/devices/pci0000:20/0000:{place}/vpd", VpdWith("MT2031X00009"));
        List<string?> ids =
        [
            .. lab
                .Agent.Scan(fresh: true)
                .Functions.Where(f => f.Function.VendorId == PciId.Parse("10ec"))
                .Select(f => f.Function.StableId),
        ];
        Assert.Equal(["vpd:MT2031X00009.0@path:pci0000:20/04.0/00.0", "vpd:MT2031X00009.0@path:pci0000:20/05.0/00.0"], ids);
        Assert.Equal(
            HoldingState.Prepared,
            (await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { OneTimeUse = true }, "0000:26:00.0"))).State
        );
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", "0000:27:00.0")).State);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        lab.Agent.Scan(fresh: true);
        Assert.All(lab.Agent.Holdings, h => Assert.Equal(HoldingState.Prepared, h.State));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        Assert.Equal(("UsedOnce", null), (lab.Seen("0000:26:00.0").WithheldBy, lab.Seen("0000:27:00.0").WithheldBy));
    }

    [Fact]
    public void Partitions_beyond_function_7_and_cards_in_two_slots_have_identities_of_their_own()
    {
        var lab = new Lab();
        foreach (string address in new[] { "0000:26:00.0", "0000:26:00.1", "0000:26:01.0", "0000:26:01.1" })
            lab.Simulated.Add(Realtek(address, "0000:20:04.0"));
        lab.Simulated.Add(Realtek("0000:27:00.0", "0000:20:05.0", slot: "7"));
        List<string?> ids = [.. lab.Agent.Scan().Functions.Where(f => !f.Function.IsBridge).Select(f => f.Function.StableId)];
        Assert.Equal(ids.Count, ids.Distinct(StringComparer.Ordinal).Count());
    }

    [Fact]
    public async Task VFs_on_a_second_bus_have_identities_of_their_own()
    {
        var lab = new Lab();
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:20:06.0",
                Ids = "8086:2030",
                Class = 0x060400,
                HostDriver = "pcieport",
            }
        );
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:31:00.0",
                Ids = "8086:1572",
                Class = 0x020000,
                Bridge = "0000:20:06.0",
                HostDriver = "i40e",
                Sriov = new SimulatedSriov
                {
                    Total = 300,
                    VfProduct = "154c",
                    Offset = 8,
                },
            }
        );
        Assert.True((await lab.Agent.SetVfsAsync(PciAddress.Parse("0000:31:00.0"), 300)).Applied);
        List<string?> ids =
        [
            .. lab
                .Agent.Scan()
                .Functions.Where(f => f.Function.ParentAddress == PciAddress.Parse("0000:31:00.0"))
                .Select(f => f.Function.StableId),
        ];
        Assert.Equal(300, ids.Distinct(StringComparer.Ordinal).Count());
        Assert.Contains("path:pci0000:20/06.0/01.0", ids);
        Assert.Contains("path:pci0000:20/06.0/+1:01.0", ids);

        // A mark on the one is none on the other, also one that an agent wrote who took the two for one.
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { OneTimeUse = true }, "0000:32:01.0"));
        Assert.True(holding.State == HoldingState.Prepared, holding.Message);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal((null, "UsedOnce"), (lab.Seen("0000:31:01.0").WithheldBy, lab.Seen("0000:32:01.0").WithheldBy));
        string record = $"{Records}/{lab.Simulated.Files.List(Records).Single(n => n.Contains("2B1", StringComparison.Ordinal))}";
        string old = lab
            .Simulated.Files.ReadText(record)!
            .Replace("/\\u002B1:01.0", "/01.0", StringComparison.Ordinal)
            .Replace("/+1:01.0", "/01.0", StringComparison.Ordinal);
        lab.Simulated.RemoveFile(record);
        lab.Simulated.PutFile($"{Records}/{Uri.EscapeDataString("path:pci0000:20/06.0/01.0")}.json", old);
        lab.RestartAgent();
        Assert.Equal("UsedOnce", lab.Seen("0000:32:01.0").WithheldBy);
    }

    [Fact]
    public async Task What_todays_agent_wrote_is_recognised()
    {
        Lab lab = WithVpd();
        await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { OneTimeUse = true }, Lab.Igb));
        lab.Simulated.CrashAgent();
        lab.Simulated.PutFile(
            JournalOfClaim,
            lab.Simulated.Files.ReadText(JournalOfClaim)!.Replace("vpd:", "serial:", StringComparison.Ordinal)
        );
        string record = $"{Records}/{Assert.Single(lab.Simulated.Files.List(Records))}";
        string text = lab.Simulated.Files.ReadText(record)!.Replace("vpd:", "serial:", StringComparison.Ordinal);
        lab.Simulated.RemoveFile(record);
        lab.Simulated.PutFile($"{Records}/{Uri.EscapeDataString("serial:MT2031X00001.0")}.json", text);

        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        lab.Agent.Scan(fresh: true);
        Assert.Equal(HoldingState.Prepared, Assert.Single(lab.Agent.Holdings).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("igb", lab.Sim(Lab.Igb).Driver);
        Assert.Equal("UsedOnce", lab.Seen(Lab.Igb).WithheldBy);
        Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse(Lab.Igb)));
        Assert.Null(lab.Seen(Lab.Igb).WithheldBy);
    }

    [Fact]
    public async Task A_guest_that_changes_its_serial_number_to_another_cards_sheds_no_mark()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        ResetTests.Soil(lab, holding);
        lab.Simulated.Change(
            Lab.Igb,
            f =>
                (f.Serial, f.FailingResets) = (
                    lab.Sim("0000:81:00.0").Serial,
                    new()
                    {
                        ["flr"] = Errnos.EIO,
                        ["pm"] = Errnos.EIO,
                        ["bus"] = Errnos.EIO,
                        ["vfio hot reset"] = Errnos.EIO,
                    }
                )
        );
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(
            ("NotClean", null),
            (
                lab.Agent.Scan(fresh: true).Functions.Single(f => f.Address == PciAddress.Parse(Lab.Igb)).WithheldBy,
                lab.Seen("0000:81:00.0").WithheldBy
            )
        );
        lab.RestartAgent();
        Assert.Equal("NotClean", lab.Seen(Lab.Igb).WithheldBy);
        lab.Reboot();
        Assert.Null(lab.Seen(Lab.Igb).WithheldBy);
    }

    /// <summary>The PF counts two VFs less one by one while a look reads them: a VF that goes has no link to its PF for a moment.</summary>
    [Fact]
    public async Task VFs_that_go_while_they_are_read_are_seen_once()
    {
        var lab = new Lab();
        await lab.Agent.SetVfsAsync(PciAddress.Parse(Lab.Igb), 2);
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        using var removing = new ManualResetEventSlim();
        using var looked = new ManualResetEventSlim();
        lab.Simulated.Fault = a =>
        {
            if (
                a is not { Operation: SimulatedOperation.Write, Before: true, Value: "0" }
                || !a.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal)
            )
            {
                return;
            }

            lab.Simulated.Fault = null;
            lab.Simulated.Change("0000:21:10.2", f => f.PhysFn = null);
            removing.Set();
            looked.Wait();
        };
        Task<Holding> preparing = Task.Run(() => lab.Agent.PrepareAsync(request));
        removing.Wait();
        HostSnapshot seen = lab.Agent.Scan(),
            again = lab.Agent.Scan([
                new Uevent
                {
                    Action = "remove",
                    DevPath = "/devices/pci0000:20/0000:20:00.0/0000:21:10.2",
                    Subsystem = "pci",
                    PciSlotName = "0000:21:10.2",
                },
            ]);
        Assert.All([seen, again], s => Assert.Equal(s.Functions.Count, s.Functions.Select(f => f.Address).Distinct().Count()));
        lab.Simulated.Change("0000:21:10.2", f => f.PhysFn = Lab.Igb);
        looked.Set();
        Assert.Equal(HoldingState.Prepared, (await preparing).State);
    }

    private static Lab WithVpd()
    {
        var lab = new Lab();
        lab.Simulated.PutFile(Vpd, VpdWith("MT2031X00001"));
        return lab;
    }

    private static Lab WithTwins(bool second = true)
    {
        var lab = new Lab();
        foreach (string port in new[] { "0000:20:04.0", "0000:20:05.0" })
        {
            lab.Simulated.Add(
                new SimulatedFunction
                {
                    Address = port,
                    Ids = "8086:2030",
                    Class = 0x060400,
                    HostDriver = "pcieport",
                }
            );
        }

        lab.Simulated.Add(Realtek("0000:26:00.0", "0000:20:04.0"));
        if (second)
            lab.Simulated.Add(Realtek("0000:27:00.0", "0000:20:05.0"));
        return lab;
    }

    private static SimulatedFunction Realtek(string address, string bridge, string? slot = null) =>
        new()
        {
            Address = address,
            Ids = "10ec:8125",
            Class = 0x020000,
            Bridge = bridge,
            Slot = slot,
            Serial = RealtekDsn,
        };

    private static void Unreadable(Lab lab, int errno = Errnos.ETIMEDOUT) =>
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Path: VpdOfIgb })
                throw new HostIoException("read", a.Path, errno);
        };

    /// <summary>A name, a read-only section with SN, the end tag; all below 128.</summary>
    private static byte[] VpdWith(string serial)
    {
        byte[] fields = [(byte)'S', (byte)'N', (byte)serial.Length, .. Encoding.ASCII.GetBytes(serial)];
        return [0x82, 3, 0, (byte)'N', (byte)'I', (byte)'C', 0x90, (byte)fields.Length, 0, .. fields, 0x78];
    }
}
