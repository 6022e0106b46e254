using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>The simulated kernel against what a real one (Linux 6.12 in QEMU) was seen to do.</summary>
public sealed class SimulatedHostTests : IDisposable
{
    private const string Vf = "0000:21:10.0";
    private readonly SimulatedHost _host = LabHosts.Create();
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pcioperator-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void Sriov_numvfs()
    {
        Assert.Equal(0, Write(Lab.Igb, "sriov_numvfs", "4"));
        Assert.Equal("../0000:21:10.2", _host.Files.ReadLink(Path(Lab.Igb, "virtfn1")));
        Assert.Equal("../0000:21:00.0", _host.Files.ReadLink(Path(Vf, "physfn")));
        Assert.Equal("igbvf", Driver(Vf));
        Assert.Equal(4, _host.Functions.Where(f => f.PhysFn == Lab.Igb).Select(f => f.Group).Distinct().Count());
        Assert.Equal(Errnos.EBUSY, Write(Lab.Igb, "sriov_numvfs", "2"));
        Assert.Equal(0, Write(Lab.Igb, "sriov_numvfs", "4"));
        Assert.Equal(Errnos.ERANGE, Write(Lab.Igb, "sriov_numvfs", "8"));
        Assert.Equal(Errnos.EINVAL, Write(Lab.Igb, "sriov_numvfs", "abc"));
        Assert.Equal(Errnos.EINVAL, Write(Lab.Igb, "sriov_numvfs", "-1"));
        Assert.Equal(0, Write(Lab.Igb, "driver/unbind", Lab.Igb));
        Assert.Equal("0", _host.Files.ReadText(Path(Lab.Igb, "sriov_numvfs")));
        Assert.False(_host.Files.Exists(Path(Vf, "")));
        Assert.Equal(Errnos.ENOENT, Write(Lab.Igb, "sriov_numvfs", "2"));
        Assert.Equal(0, Write(Lab.Igb, "sriov_numvfs", "0"));
        Assert.Equal(0, Probe(Lab.Igb));
        Assert.Equal(0, Write(Lab.Igb, "sriov_drivers_autoprobe", "0"));
        Assert.Equal(0, Write(Lab.Igb, "sriov_numvfs", "1"));
        Assert.Null(Driver(Vf));
        Assert.Equal(Errnos.EINVAL, Write(Lab.Igb, "sriov_drivers_autoprobe", "x"));
    }

    [Fact]
    public void Binding()
    {
        Write(Lab.Igb, "sriov_numvfs", "4");
        Assert.Equal("(null)", _host.Files.ReadText(Path(Vf, "driver_override")));
        Assert.Equal(0, Write(Vf, "driver_override", "vfio-pci"));
        Assert.Equal(0, Probe(Vf));
        Assert.Equal("igbvf", Driver(Vf));
        Assert.Equal(0, Write(Vf, "driver/unbind", Vf));
        Assert.Equal(0, Probe(Vf));
        Assert.Null(Driver(Vf));
        _host.Files.LoadModule("vfio-pci");
        Assert.Equal(0, Probe(Vf));
        Assert.Equal("vfio-pci", Driver(Vf));
        string node = $"/dev/vfio/{_host.Find(Vf)!.Group}";
        Assert.NotNull(_host.Files.DeviceAt(node));
        Assert.Equal(Errnos.EBUSY, Write("/sys/bus/pci/drivers/vfio-pci/bind", Vf));
        Assert.Equal(Errnos.ENODEV, Probe("0000:aa:00.0"));
        Assert.Equal(Errnos.ENODEV, Write("/sys/bus/pci/drivers/igbvf/unbind", Vf));
        Assert.Equal(0, Write(Vf, "driver/unbind", Vf));
        Assert.Null(_host.Files.DeviceAt(node));
        Assert.Equal(Errnos.ENODEV, Write("/sys/bus/pci/drivers/igbvf/bind", Vf));
        Assert.Equal(0, Write(Vf, "driver_override", ""));
        Assert.Equal("vfio-pci", _host.Files.ReadText(Path(Vf, "driver_override")));
        Assert.Equal(0, Write(Vf, "driver_override", "\n"));
        Assert.Equal("(null)", _host.Files.ReadText(Path(Vf, "driver_override")));
        Assert.Equal(0, Write("/sys/bus/pci/drivers/igbvf/bind", Vf));
        Assert.Equal("igbvf", Driver(Vf));
        Assert.Equal(Errnos.ENOENT, Write("/sys/bus/pci/drivers/vfio-pci/new_id", "8086 10ca"));
    }

    [Fact]
    public void Without_an_IOMMU_the_probe_says_OK_and_binds_nothing()
    {
        SimulatedHost bare = LabHosts.Builder().WithoutIommu(firmware: true).Build();
        bare.Files.LoadModule("vfio-pci");
        Assert.Null(bare.Files.ReadLink(Path(Lab.Igb, "iommu_group")));
        bare.Files.Write(Path(Lab.Igb, "driver_override"), "vfio-pci");
        bare.Files.Write(Path(Lab.Igb, "driver/unbind"), Lab.Igb);
        bare.Files.Write("/sys/bus/pci/drivers_probe", Lab.Igb);
        Assert.Null(bare.Files.ReadLink(Path(Lab.Igb, "driver")));
        Assert.Equal(
            Errnos.EINVAL,
            Assert.Throws<HostIoException>(() => bare.Files.Write("/sys/bus/pci/drivers/vfio-pci/bind", Lab.Igb)).Errno
        );
    }

    [Fact]
    public void What_the_host_driver_made_goes_and_comes_with_it()
    {
        Assert.True(_host.Files.Exists("/sys/class/net/ens1/flags"));
        Assert.True(_host.Files.Exists("/dev/nvme1n1"));
        Write(Lab.Igb, "driver/unbind", Lab.Igb);
        Write(Lab.Nvme, "driver/unbind", Lab.Nvme);
        Assert.False(_host.Files.Exists("/sys/class/net/ens1/flags"));
        Assert.False(_host.Files.Exists("/dev/nvme1n1"));
        Probe(Lab.Igb);
        Probe(Lab.Nvme);
        Assert.True(_host.Files.Exists("/sys/class/net/ens1/flags"));
        Assert.True(_host.Files.Exists("/dev/nvme1n1"));
    }

    [Fact]
    public async Task Uevents_say_what_happens()
    {
        using var stop = new CancellationTokenSource();
        await using IAsyncEnumerator<Uevent> events = _host.Uevents.ReadAsync(stop.Token).GetAsyncEnumerator();
        ValueTask<bool> next = events.MoveNextAsync();
        Write(Lab.Igb, "sriov_numvfs", "1");
        Write(Lab.Igb, "sriov_numvfs", "0");
        _host.Remove(Lab.X520);
        var seen = new List<string>();
        while (seen.Count < 10 && await next)
        {
            seen.Add($"{events.Current.Action} {events.Current.Subsystem} {events.Current.PciSlotName}".TrimEnd());
            if (seen[^1] == $"remove pci {Lab.X520}")
                break;
            next = events.MoveNextAsync();
        }

        Assert.Equal(
            [
                $"add pci {Vf}",
                "add net",
                $"bind pci {Vf}",
                $"change pci {Lab.Igb}",
                "remove net",
                $"unbind pci {Vf}",
                $"remove pci {Vf}",
                $"unbind pci {Lab.X520}",
                $"remove pci {Lab.X520}",
            ],
            seen
        );
    }

    [Fact]
    public async Task A_kept_host_outlives_the_process_that_used_it()
    {
        string file = System.IO.Path.Combine(_folder.FullName, "host.json");
        string picture = new Lab(_host).Picture();
        _host.SaveTo(file);
        var first = new Lab(_host);
        AssignmentRequest request = first.Request("claim-1", Lab.X710);
        int changes = 0;
        _host.Fault = a =>
        {
            if (a is { IsChange: true, Before: false } && ++changes == 4)
                _host.CrashAgent();
        };
        await Assert.ThrowsAsync<SimulatedCrashException>(() => first.Agent.PrepareAsync(request));

        var second = new Lab(SimulatedHost.Open(file));
        Assert.NotEqual(picture, second.Picture());
        Assert.Equal(_host.BootId, second.Simulated.BootId);
        await second.Agent.RecoverAsync();
        Assert.Equal(HoldingState.Preparing, Assert.Single(second.Agent.Holdings).State);
        Assert.Equal(HoldingState.Prepared, (await second.Agent.PrepareAsync(request)).State);

        var third = new Lab(SimulatedHost.Open(file));
        third.Reboot();
        Assert.NotEqual(_host.BootId, third.Simulated.BootId);

        var fourth = new Lab(SimulatedHost.Open(file));
        Assert.Equal(HoldingState.Prepared, (await fourth.Agent.PrepareAsync(request)).State);
        Assert.Null(await fourth.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, new Lab(SimulatedHost.Open(file)).Picture());
    }

    [Fact]
    public void Many_hosts_are_the_same_for_the_same_seed_and_can_all_be_scanned()
    {
        string[] first = [.. LabHosts.Many(20, 7).Select(h => new Lab(h).Picture())];
        Assert.Equal(first, LabHosts.Many(20, 7).Select(h => new Lab(h).Picture()));
        Assert.True(first.Distinct().Count() > 15);
        foreach (SimulatedHost one in LabHosts.Many(20, 8))
        {
            HostSnapshot snapshot = new Lab(one).Agent.Scan();
            Assert.Empty(snapshot.Problems);
            Assert.Equal(3, snapshot.Functions.Count(f => f.GuardReason is not null));
            Assert.Equal(
                snapshot.Functions.Count(f => f.Function.Type != DeviceType.Vf),
                snapshot.Functions.Where(f => f.Function.Type != DeviceType.Vf).Select(f => f.Function.StableId).Distinct().Count()
            );
        }
    }

    private static string Path(string address, string file) => $"/sys/bus/pci/devices/{address}/{file}".TrimEnd('/');

    private string? Driver(string address) => _host.Files.ReadLink(Path(address, "driver"))?.Split('/')[^1];

    private int Probe(string address) => Write("/sys/bus/pci/drivers_probe", address);

    private int Write(string address, string file, string value) => Write(Path(address, file), value);

    private int Write(string path, string value)
    {
        try
        {
            _host.Files.Write(path, value);
            return 0;
        }
        catch (HostIoException e)
        {
            return e.Errno;
        }
    }

    [Fact]
    public void Reset_files_answer_as_the_kernels_do()
    {
        SimulatedHost host = LabHosts.Create();
        string folder = $"/sys/bus/pci/devices/{Lab.Igb}";
        int Errno(string file, string value) => Assert.Throws<HostIoException>(() => host.Files.Write($"{folder}/{file}", value)).Errno;
        Assert.Equal(Errnos.EINVAL, Errno("reset", "0"));
        Assert.Equal(Errnos.EINVAL, Errno("reset_method", "acpi"));
        host.Files.Write($"{folder}/reset_method", "bus");
        Assert.Equal("bus", host.Files.ReadText($"{folder}/reset_method"));
        host.Files.Write($"{folder}/reset", "1");
        Assert.Equal(1, host.Find(Lab.Igb)!.Resets);
        host.Files.Write($"{folder}/reset_method", "\n");
        Assert.Equal(Errnos.ENOTTY, Errno("reset", "1"));
        host.Files.Write($"{folder}/reset_method", "default");
        Assert.Equal("flr pm bus", host.Files.ReadText($"{folder}/reset_method"));

        // ENOTTY goes on to the next method; anything else ends it.
        host.Change(Lab.Igb, f => f.FailingResets["flr"] = Errnos.ENOTTY);
        host.Files.Write($"{folder}/reset", "1");
        host.Change(Lab.Igb, f => f.FailingResets["flr"] = Errnos.EIO);
        Assert.Equal(Errnos.EIO, Errno("reset", "1"));

        // A bus with other functions is not one function's to reset.
        folder = $"/sys/bus/pci/devices/{Lab.Gpu}";
        Assert.Equal(Errnos.ENOTTY, Errno("reset", "1"));
        Assert.Null(host.Files.ReadText("/sys/bus/pci/devices/0000:24:00.1/reset_method"));
    }
}
