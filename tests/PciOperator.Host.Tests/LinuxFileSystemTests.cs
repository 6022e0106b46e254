using System.Text;

namespace PciOperator.Host.Tests;

public sealed class LinuxFileSystemTests : IDisposable
{
    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("pcioperator-");
    private readonly LinuxFileSystem _files;

    public LinuxFileSystemTests() => _files = new LinuxFileSystem(_root.FullName);

    public void Dispose() => _root.Delete(recursive: true);

    [Fact]
    public void Reads_what_is_there_and_says_null_for_what_is_not()
    {
        Directory.CreateDirectory(Path.Combine(_root.FullName, "sys/b"));
        Directory.CreateDirectory(Path.Combine(_root.FullName, "sys/A"));
        File.WriteAllText(Path.Combine(_root.FullName, "sys/vendor"), "0x8086\n");
        File.WriteAllBytes(Path.Combine(_root.FullName, "sys/config"), [1, 2, 3, 4]);
        File.CreateSymbolicLink(Path.Combine(_root.FullName, "sys/driver"), "../bus/igb");
        File.CreateSymbolicLink(Path.Combine(_root.FullName, "sys/folder"), "b");

        Assert.Equal("0x8086", _files.ReadText("/sys/vendor"));
        Assert.Equal([1, 2], _files.ReadBytes("/sys/config", 2));
        Assert.Equal([1, 2, 3, 4], _files.ReadBytes("/sys/config", 99));
        Assert.Equal("../bus/igb", _files.ReadLink("/sys/driver"));
        Assert.Null(_files.ReadLink("/sys/vendor"));
        Assert.Equal(["A", "b", "config", "driver", "folder", "vendor"], _files.List("/sys"));
        Assert.Equal(["A", "b"], _files.ListFolders("/sys"));
        Assert.Empty(_files.List("/none"));
        Assert.Empty(_files.List("/sys/vendor"));
        Assert.Null(_files.ReadText("/none"));
        Assert.Null(_files.ReadText("/sys/vendor/below"));
        Assert.Null(_files.ReadLink("/none"));
        Assert.True(_files.Exists("/sys/vendor"));
        Assert.False(_files.Exists("/sys/driver"));
        Assert.Equal(Errnos.EISDIR, Assert.Throws<HostIoException>(() => _files.ReadText("/sys")).Errno);
        Assert.Throws<ArgumentException>(() => _files.ReadText("sys/vendor"));
    }

    [Fact]
    public void A_large_file_is_read_whole()
    {
        string text = string.Concat(Enumerable.Repeat("0123456789", 50_000));
        File.WriteAllText(Path.Combine(_root.FullName, "large"), text);
        Assert.Equal(text, _files.ReadText("/large"));
        Assert.Equal(10_000, _files.ReadBytes("/large", 10_000)!.Length);
    }

    [Fact]
    public void Writes_to_what_is_there_without_truncating_it()
    {
        string path = Path.Combine(_root.FullName, "driver_override");
        File.WriteAllText(path, "0123456789");
        _files.Write("/driver_override", "vfio");
        Assert.Equal("vfio456789", File.ReadAllText(path));
        HostIoException e = Assert.Throws<HostIoException>(() => _files.Write("/none", "x\n"));
        Assert.Equal((Errnos.ENOENT, "/none"), (e.Errno, e.Path));
        Assert.Equal("write 'x' to /none: ENOENT (no such file).", e.Message);
        Assert.False(File.Exists(Path.Combine(_root.FullName, "none")));
    }

    [Fact]
    public void Replaces_its_own_files_whole_makes_folders_and_leaves_nothing_behind()
    {
        _files.WriteDurably("/var/lib/x/journal/a.json", "one"u8);
        _files.WriteDurably("/var/lib/x/journal/a.json", "two"u8);
        Assert.Equal("two", _files.ReadText("/var/lib/x/journal/a.json"));
        Assert.Equal(["a.json"], _files.List("/var/lib/x/journal"));
        _files.Delete("/var/lib/x/journal/a.json");
        _files.Delete("/var/lib/x/journal/a.json");
        Assert.Empty(_files.List("/var/lib/x/journal"));
        Assert.Throws<HostIoException>(() => _files.WriteDurably("/var/lib/x/journal", "not a file"u8));
        Assert.Equal(["journal"], _files.List("/var/lib/x"));
    }

    [Fact]
    public void Knows_device_nodes_and_processes_files()
    {
        var host = new LinuxFileSystem();
        Assert.Equal(new DeviceNumber(false, 1, 3), host.DeviceAt("/dev/null"));
        Assert.Null(host.DeviceAt("/proc/cpuinfo"));
        Assert.Null(host.DeviceAt("/none"));
        using FileStream open = File.OpenRead("/dev/null");
        string fd = $"/proc/{Environment.ProcessId}/fd/{open.SafeFileHandle.DangerousGetHandle()}";
        Assert.Equal("/dev/null", host.ReadLink(fd));
        Assert.Equal(new DeviceNumber(false, 1, 3), host.DeviceAt(fd));
        Assert.Equal(Errnos.ENOENT, Assert.Throws<HostIoException>(() => host.ClaimBlockDevice("/none")).Errno);
        Assert.NotEmpty(host.ReadText("/proc/sys/kernel/random/boot_id")!);
    }

    [Fact]
    public void This_machines_network_is_read_whole()
    {
        HostNetwork network = new LinuxFileSystem().ReadNetwork();
        Assert.Equal(
            Directory.GetFileSystemEntries("/sys/class/net").Select(Path.GetFileName).Order(),
            network.Links.Select(l => l.Name).Where(n => Directory.Exists($"/sys/class/net/{n}")).Order()
        );
        NetLink loopback = Assert.Single(network.Links, l => l.Name == "lo");
        Assert.Contains(network.Addresses, a => a == new NetAddress(loopback.Index, "127.0.0.1/8", false));
        Assert.All(network.Routes, r => Assert.Contains(network.Links, l => l.Index == r.Index));
    }

    [Fact]
    public void This_machine_is_scanned_without_an_exception()
    {
        HostSnapshot snapshot = new PassthroughHost(new LinuxFileSystem(), Path.Combine(_root.FullName, "state")).Scan();
        Assert.NotEmpty(snapshot.KernelVersion);
        Assert.All(snapshot.Functions, f => Assert.NotEqual(0, f.Function.VendorId.Value));
    }

    [Fact]
    public void A_uevent_is_parsed_and_anything_else_is_not()
    {
        byte[] message = Encoding.UTF8.GetBytes(
            "bind@/devices/pci0000:20/0000:21:00.0\0ACTION=bind\0DEVPATH=/devices/pci0000:20/0000:21:00.0\0SUBSYSTEM=pci\0DRIVER=igb\0PCI_SLOT_NAME=0000:21:00.0\0SEQNUM=7\0"
        );
        Assert.Equal(
            new Uevent
            {
                Action = "bind",
                DevPath = "/devices/pci0000:20/0000:21:00.0",
                Subsystem = "pci",
                PciSlotName = "0000:21:00.0",
            },
            LinuxUevents.Parse(message)
        );
        Assert.Null(LinuxUevents.Parse("libudev\0\u00fe\u00ed"u8));
        Assert.Null(LinuxUevents.Parse([]));
        for (int length = 0; length < message.Length; length++)
            _ = LinuxUevents.Parse(message.AsSpan(0, length));
    }

    [Fact]
    public async Task The_uevent_socket_opens_and_closes()
    {
        using var stop = new CancellationTokenSource();
        IAsyncEnumerator<Uevent> events = new LinuxUevents().ReadAsync(stop.Token).GetAsyncEnumerator();
        Task<bool> next = events.MoveNextAsync().AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            // A machine may say something in the meantime.
            while (await next)
                next = events.MoveNextAsync().AsTask();
        });
        await events.DisposeAsync();
    }
}
