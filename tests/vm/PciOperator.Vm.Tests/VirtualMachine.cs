using System.Net.Sockets;
using System.Threading.Channels;

namespace PciOperator.Vm.Tests;

/// <summary>How a machine is built.</summary>
internal sealed record VirtualMachineOptions
{
    /// <summary>For the folder with its logs, artifacts/vm/runs/NAME.</summary>
    public required string Name { get; init; }

    public int MemoryMiB { get; init; } = 1536;

    /// <summary>Even, at least two: half on each NUMA node.</summary>
    public int Cpus { get; init; } = 2;

    /// <summary>Modules that are loaded at boot, in order; a real host's udev would have loaded those of its devices.</summary>
    public IReadOnlyList<string> Modules { get; init; } =
    [
        "virtio_pci",
        "virtio_console",
        "virtio_net",
        "virtio_blk",
        "9pnet_virtio",
        "9p",
        "igb",
        "igbvf",
        "e1000e",
        "nvme",
        "vfio_iommu_type1",
        "vfio-pci",
    ];

    /// <summary>Host folders that the guest sees, read-only, as /mnt/TAG.</summary>
    public IReadOnlyDictionary<string, string> Shares { get; init; } = new Dictionary<string, string>();

    /// <summary>Gives the guest a disk at /var/lib/pcioperator that survives <see cref="VirtualMachine.RestartAsync"/>.</summary>
    public bool StateDisk { get; init; }

    /// <summary>The port on the host's loopback that the guest reaches as https://10.0.2.100:6443; null: none.</summary>
    public int? ApiServerPort { get; init; }

    /// <summary>What is in it at the first boot.</summary>
    public Hardware Hardware { get; init; } = Hardware.Standard;

    /// <summary>The IOMMU is on unless this says otherwise.</summary>
    public string KernelArguments { get; init; } = "intel_iommu=on";
}

/// <summary>
/// A real Linux kernel in QEMU, with the hardware of <see cref="Topology"/>, and a shell in it. Logs stay in artifacts/vm/runs/NAME.
/// </summary>
internal sealed class VirtualMachine : IAsyncDisposable
{
    private static readonly TimeSpan BootTime = TimeSpan.FromMinutes(3);

    private readonly VirtualMachineOptions _options;
    private readonly Kernel _kernel;
    private readonly string _folder;
    private Hardware _hardware;
    private ChildProcess? _process;
    private GuestShell? _shell;
    private QmpClient? _qmp;

    private VirtualMachine(VirtualMachineOptions options)
    {
        _options = options;
        _hardware = options.Hardware;
        _kernel = Lab.FindKernel();
        _folder = Path.Combine(Lab.Artifacts, "runs", options.Name);
        if (Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
        Directory.CreateDirectory(_folder);
        MakeDisk(NvmeImage);
        if (options.StateDisk)
            MakeDisk(StateImage);
    }

    public QmpClient Qmp => _qmp ?? throw new InvalidOperationException($"{_options.Name} is not running");

    public bool IsRunning => _shell is { Ready.IsCompletedSuccessfully: true };

    public string KernelVersion => _kernel.Version;

    private string NvmeImage => Path.Combine(_folder, "nvme.img");

    private string StateImage => Path.Combine(_folder, "state.img");

    private string QemuLog => Path.Combine(_folder, "qemu.log");

    private string ConsoleLog => Path.Combine(_folder, "console.log");

    /// <summary>Boots a machine; it takes commands when this returns.</summary>
    public static async Task<VirtualMachine> StartAsync(VirtualMachineOptions options)
    {
        var machine = new VirtualMachine(options);
        try
        {
            await machine.BootAsync();
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>Cuts the power and boots again: memory is lost, disks keep what had reached them.</summary>
    /// <param name="hardware">What was changed while the power was off; null: nothing.</param>
    public async Task RestartAsync(Hardware? hardware = null)
    {
        await StopAsync();
        _hardware = hardware ?? _hardware;
        await BootAsync();
    }

    /// <summary>Runs a shell script in the guest to its end; two minutes are enough unless said otherwise.</summary>
    public async Task<CommandResult> RunAsync(string script, TimeSpan? timeout = null)
    {
        GuestShell shell = _shell ?? throw new InvalidOperationException($"{_options.Name} is not running");
        using var patience = new CancellationTokenSource(timeout ?? TimeSpan.FromMinutes(2));
        try
        {
            return await shell.RunAsync(script, patience.Token);
        }
        catch (OperationCanceledException) when (patience.IsCancellationRequested)
        {
            throw new TimeoutException(WithConsole($"the guest has not finished in time: {script}"));
        }
        catch (IOException exception)
        {
            throw new IOException(WithConsole($"{exception.Message} before the guest had finished: {script}"), exception);
        }
    }

    /// <summary>The output of a script that must succeed.</summary>
    /// <exception cref="InvalidOperationException">It did not; the message has its output.</exception>
    public async Task<string> OutputOfAsync(string script, TimeSpan? timeout = null)
    {
        CommandResult result = await RunAsync(script, timeout);
        return result.ExitCode == 0
            ? result.Output
            : throw new InvalidOperationException(WithConsole($"exit code {result.ExitCode} in the guest from: {script}\n{result.Output}"));
    }

    /// <summary>Returns when a condition, written as a shell command, holds in the guest.</summary>
    /// <exception cref="TimeoutException">It never did.</exception>
    public async Task WaitUntilAsync(string condition, TimeSpan? timeout = null)
    {
        int seconds = (int)(timeout ?? TimeSpan.FromSeconds(90)).TotalSeconds;
        string script =
            $"end=$(($(cut -d. -f1 /proc/uptime) + {seconds})); until {condition}; do [ $(cut -d. -f1 /proc/uptime) -lt $end ] || exit 1; usleep 50000; done";
        if ((await RunAsync(script, TimeSpan.FromSeconds(seconds * 2 + 30))).ExitCode != 0)
            throw new TimeoutException(WithConsole($"never held in the guest within {seconds} s: {condition}"));
    }

    /// <summary>Plugs an 82576 into <see cref="Topology.HotPlugPort"/>.</summary>
    /// <param name="id">A name for <see cref="PullOutAsync"/>.</param>
    public Task PlugInAsync(string id) =>
        Qmp.ExecuteAsync(
            "device_add",
            new()
            {
                ["driver"] = "igb",
                ["id"] = id,
                ["bus"] = Topology.HotPlugPort,
                ["romfile"] = "",
                ["mac"] = "52:54:00:00:00:03",
            }
        );

    /// <summary>Asks the guest to let a hot-plugged device go, as its attention button does, and waits until it has (five seconds
    /// at least, in which the request could be taken back). Nothing happens when there is none.</summary>
    /// <param name="id">As in <see cref="PlugInAsync"/>.</param>
    public async Task PullOutAsync(string id)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (await HasDeviceAsync(id))
        {
            try
            {
                await Qmp.ExecuteAsync("device_del", new() { ["id"] = id }, patience.Token);
            }
            catch (InvalidOperationException refusal)
                when (refusal.Message.Contains("guest is busy")
                    || refusal.Message.Contains("already in the process")
                    || refusal.Message.EndsWith("not found", StringComparison.Ordinal)
                )
            {
                // The slot is still powering up, or down, or has let it go since.
            }

            await Task.Delay(200, patience.Token);
        }
    }

    /// <summary>Whether a hot-plugged device is in the machine, whatever the guest knows of it.</summary>
    public async Task<bool> HasDeviceAsync(string id) =>
        (await Qmp.ExecuteAsync("qom-list", new() { ["path"] = "/machine/peripheral" }))!
            .AsArray()
            .Any(device => device!["name"]!.GetValue<string>() == id);

    /// <summary>The driver that a PCI function is bound to; empty when none is.</summary>
    public Task<string> DriverOfAsync(string address) => LinkOfAsync(address, "driver");

    /// <summary>The number of its IOMMU group; empty when it has none.</summary>
    public Task<string> IommuGroupOfAsync(string address) => LinkOfAsync(address, "iommu_group");

    /// <summary>A file of /sys/bus/pci/devices/ADDRESS.</summary>
    public Task<string> SysfsAsync(string address, string attribute) => OutputOfAsync($"cat /sys/bus/pci/devices/{address}/{attribute}");

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        File.Delete(NvmeImage);
        File.Delete(StateImage);
    }

    private Task<string> LinkOfAsync(string address, string link) =>
        OutputOfAsync($"cd /sys/bus/pci/devices/{address} && if [ -e {link} ]; then basename $(readlink {link}); fi");

    /// <summary>Boots, a second time if need be: on a loaded machine the emulated timer of a guest can stop while its kernel starts,
    /// which says nothing about what is tested.</summary>
    private async Task BootAsync()
    {
        try
        {
            await BootOnceAsync();
        }
        catch (InvalidOperationException firstTime)
        {
            Console.WriteLine($"{_options.Name} boots again: {firstTime.Message.Split('\n')[0]}");
            await BootOnceAsync();
        }
    }

    private async Task BootOnceAsync()
    {
        // Short paths: a Unix socket's is at most 107 bytes.
        DirectoryInfo sockets = Directory.CreateTempSubdirectory("pciop");
        try
        {
            using Socket commands = Listen(Path.Combine(sockets.FullName, "commands"));
            using Socket qmp = Listen(Path.Combine(sockets.FullName, "qmp"));
            _process = new ChildProcess(QemuLog, Lab.FindProgram(Lab.Qemu)!, Arguments(sockets.FullName));

            using var patience = new CancellationTokenSource(BootTime);
            Task exited = _process.WaitForExitAsync(patience.Token);
            _shell = new GuestShell(await AcceptAsync(commands));
            _qmp = await QmpClient.StartAsync(await AcceptAsync(qmp), patience.Token);
            await _shell.Ready.WaitAsync(patience.Token);

            async Task<Socket> AcceptAsync(Socket listener)
            {
                Task<Socket> accepted = listener.AcceptAsync(patience.Token).AsTask();
                return await Task.WhenAny(accepted, exited) == accepted ? await accepted : throw new IOException("QEMU has ended");
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or IOException or ChannelClosedException)
        {
            await StopAsync();
            throw new InvalidOperationException(
                WithConsole(
                    $"{_options.Name} did not boot ({BootTime.TotalSeconds} s are allowed). QEMU says: {File.ReadAllText(QemuLog)}"
                ),
                exception
            );
        }
        finally
        {
            sockets.Delete(recursive: true);
        }
    }

    private List<string> Arguments(string sockets)
    {
        string settings =
            $"lab.modules={string.Join(',', _options.Modules)} lab.net=1 lab.shares={string.Join(',', _options.Shares.Keys)}{(_options.StateDisk ? " lab.state=1" : "")}";
        List<string> arguments =
        [
            "-name",
            _options.Name,
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            .. Topology.Arguments(_options.MemoryMiB, _options.Cpus, NvmeImage, _hardware),
            .. Topology.NetworkArguments(Lab.FindProgram("busybox")!, _options.ApiServerPort),
            "-serial",
            "file:" + ConsoleLog,
            // Not a serial port: an emulated UART loses what comes faster than the guest takes it.
            "-device",
            "virtio-serial-pci,bus=pcie.0",
            "-chardev",
            $"socket,id=commands,path={sockets}/commands",
            "-device",
            "virtserialport,chardev=commands,name=commands",
            "-qmp",
            $"unix:{sockets}/qmp",
            "-kernel",
            _kernel.Image,
            "-initrd",
            GuestImage.Build(_kernel),
            "-append",
            $"console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable no_timer_check mitigations=off {_options.KernelArguments} {settings}",
        ];
        foreach ((string tag, string folder) in _options.Shares)
        {
            arguments.AddRange([
                "-fsdev",
                $"local,id={tag},path={folder},security_model=none,readonly=on",
                "-device",
                $"virtio-9p-pci,fsdev={tag},mount_tag={tag},bus=pcie.0",
            ]);
        }

        if (_options.StateDisk)
        {
            arguments.AddRange([
                "-drive",
                $"file={StateImage},if=none,id=state,format=raw",
                "-device",
                "virtio-blk-pci,drive=state,bus=pcie.0",
            ]);
        }

        return arguments;
    }

    private async Task StopAsync()
    {
        _qmp?.Dispose();
        _shell?.Dispose();
        (_qmp, _shell) = (null, null);
        if (_process is null)
            return;
        await _process.DisposeAsync();
        _process = null;
    }

    private string WithConsole(string message) =>
        File.Exists(ConsoleLog)
            ? $"{message}\nThe end of its console ({ConsoleLog}):\n{string.Join('\n', File.ReadLines(ConsoleLog).TakeLast(25))}"
            : message;

    private static Socket Listen(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path));
        socket.Listen(1);
        return socket;
    }

    /// <summary>A disk with an empty ext4 file system.</summary>
    private static void MakeDisk(string path)
    {
        Lab.Run("truncate", "-s", "64M", path);
        Lab.Run("mkfs.ext4", "-q", "-F", path);
    }
}
