using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Threading.Channels;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>What an agent asked of a simulated host.</summary>
public enum SimulatedOperation
{
    /// <summary>Any look: text, link, list, device number, existence.</summary>
    Read,

    /// <summary>One write(2) to a file of the kernel's.</summary>
    Write,

    /// <summary>A file of the agent's replaced durably.</summary>
    WriteDurably,

    /// <summary>A file of the agent's removed.</summary>
    Delete,

    /// <summary>modprobe.</summary>
    LoadModule,

    /// <summary>VFIO's reset of a slot or bus.</summary>
    HotReset,
}

/// <summary>One call of an agent, before or after it has had its effect.</summary>
/// <param name="Operation">What kind.</param>
/// <param name="Path">The file, or the module's name.</param>
/// <param name="Value">What is written; empty for other kinds.</param>
/// <param name="Before">Not done yet; otherwise it has been done.</param>
/// <param name="Index">0, 1, … over the agent's reads, or over all that isn't a read.</param>
public sealed record SimulatedAccess(SimulatedOperation Operation, string Path, string Value, bool Before, int Index)
{
    /// <summary>Changes something.</summary>
    public bool IsChange => Operation != SimulatedOperation.Read;
}

/// <summary>One write to the simulated kernel.</summary>
/// <param name="Path">The file.</param>
/// <param name="Value">What was written, without the final newline.</param>
/// <param name="Errno">0: OK.</param>
public sealed record SysfsWrite(string Path, string Value, int Errno);

/// <summary>The agent was killed: every further call of its own fails so.</summary>
public sealed class SimulatedCrashException() : Exception("The simulated agent was killed.");

/// <summary>
/// A host whose kernel, devices and disks are simulated: sysfs, procfs and devtmpfs as far as PCI passthrough needs them, with
/// the kernel's errors and quirks. It outlives the agents that use it, and (see <see cref="SaveTo"/>) their processes.
/// </summary>
public sealed class SimulatedHost
{
    /// <summary>Where an agent keeps its journal on a simulated host.</summary>
    public const string StateDirectory = "/var/lib/pcioperator";

    private readonly SimulatedState _state;
    private readonly SimulatedKernel _kernel;
    private readonly SimulatedResets _resets;
    private readonly List<SysfsWrite> _log = [];
    private readonly List<Channel<Uevent>> _listeners = [];
    private readonly SortedSet<string> _claimed = new(StringComparer.Ordinal);
    private FileTree? _tree;
    private int _held;
    private string? _savedAt;
    private volatile bool _muted;
    private AgentFiles? _taker;
    private AgentFiles _agent;

    internal SimulatedHost(SimulatedState state)
    {
        _state = state;
        _kernel = new SimulatedKernel(state, Touch, Emit) { Waits = () => Waits?.Invoke() };
        _resets = new SimulatedResets(state, _kernel);
        _agent = new AgentFiles(this);
        Uevents = new Events(this);
    }

    /// <summary>
    /// The host as the present agent sees it. After <see cref="CrashAgent"/> or <see cref="Reboot"/>: another object, for the next agent.
    /// </summary>
    public IHostFileSystem Files => _agent;

    /// <summary>The host as a second agent sees it that was started beside the present one.</summary>
    public IHostFileSystem FilesOfAnotherAgent() => new AgentFiles(this);

    /// <summary>The kernel's uevents.</summary>
    public IUeventSource Uevents { get; }

    /// <summary>Every write to the kernel so far.</summary>
    public IReadOnlyList<SysfsWrite> Log
    {
        get
        {
            lock (_kernel.Gate)
                return [.. _log];
        }
    }

    /// <summary>
    /// Called before and after every call of the agent, without locks: it may throw a <see cref="HostIoException"/>, wait, or
    /// call <see cref="CrashAgent"/>.
    /// </summary>
    public Action<SimulatedAccess>? Fault { get; set; }

    /// <summary>
    /// Whether the kernel holds a change: it is begun, keeps its device locked, and ends, with its effect, after
    /// <see cref="LetGo"/>, also when the agent that asked for it is dead by then. Called with the host's lock held.
    /// </summary>
    public Func<SimulatedAccess, bool>? Holds { get; set; }

    /// <summary>Called when a call begins to wait for a device's lock, with the host's lock held.</summary>
    public Action? Waits { get; set; }

    /// <summary>What the kernel holds goes on, and has had its effect when this returns.</summary>
    public void LetGo()
    {
        lock (_kernel.Gate)
        {
            Holds = null;
            _kernel.Closed();
            while (_held > 0)
                Monitor.Wait(_kernel.Gate);
        }
    }

    /// <summary>The regular files below a folder, with their content.</summary>
    public IReadOnlyDictionary<string, byte[]> FilesBelow(string folder)
    {
        lock (_kernel.Gate)
        {
            return _state
                .Files.Where(f => f.Key.StartsWith(folder + "/", StringComparison.Ordinal))
                .ToDictionary(f => f.Key, f => f.Value, StringComparer.Ordinal);
        }
    }

    /// <summary>Another one after each boot.</summary>
    public string BootId => _state.BootId;

    /// <summary>A host that an earlier process kept in a file, and goes on keeping there. One process at a time.</summary>
    public static SimulatedHost Open(string path)
    {
        SimulatedState state =
            JsonSerializer.Deserialize<SimulatedState>(File.ReadAllBytes(path))
            ?? throw new InvalidDataException($"{path} holds no simulated host.");
        var host = new SimulatedHost(state) { _savedAt = path };
        host._kernel.FinishUnbinding();
        return host;
    }

    /// <summary>Keeps the host's state in a file from now on: whole, and before any change returns to the agent.</summary>
    public void SaveTo(string path)
    {
        lock (_kernel.Gate)
        {
            _savedAt = path;
            Save();
        }
    }

    /// <summary>
    /// Writes the host's files as they are now under a folder, for a <see cref="LinuxFileSystem"/> rooted there: /sys, /proc and
    /// the regular files; no device nodes, and writing to them does nothing.
    /// </summary>
    public void CopyTo(string root)
    {
        foreach (string folder in Files.ListFolders("/").Where(name => name != "dev"))
            Copy($"/{folder}", root);
    }

    /// <summary>What a function is like now (a view: change it through <see cref="Change"/>); null when there is none.</summary>
    public SimulatedFunction? Find(string address)
    {
        lock (_kernel.Gate)
            return _kernel.Find(address);
    }

    /// <summary>All functions now.</summary>
    public IReadOnlyList<SimulatedFunction> Functions
    {
        get
        {
            lock (_kernel.Gate)
                return [.. _state.Functions];
        }
    }

    /// <summary>Changes a function behind the agent's back: an administrator, another card, a mount.</summary>
    public void Change(string address, Action<SimulatedFunction> change)
    {
        lock (_kernel.Gate)
        {
            SimulatedFunction f = _kernel.Find(address) ?? throw new ArgumentException($"There is no {address}.", nameof(address));
            change(f);
            Touch();
            Emit(
                new Uevent
                {
                    Action = "change",
                    DevPath = _kernel.DevPath(f),
                    Subsystem = "pci",
                    PciSlotName = f.Address,
                }
            );
        }
    }

    /// <summary>VFs of a <see cref="SimulatedSriov.Slow"/> PF appear.</summary>
    public void ShowVfs(string pf)
    {
        lock (_kernel.Gate)
        {
            _kernel.ShowVfs(_kernel.Find(pf) ?? throw new ArgumentException($"There is no {pf}.", nameof(pf)));
            Touch();
        }
    }

    /// <summary>Something happens while so much else does that its uevents are lost: listeners only hear that (ENOBUFS).</summary>
    public void Overrun(Action change)
    {
        _muted = true;
        change();
        _muted = false;
        Emit(Uevent.Lost);
    }

    /// <summary>A device is plugged in.</summary>
    public void Add(SimulatedFunction function)
    {
        lock (_kernel.Gate)
        {
            _kernel.Add(function);
            Touch();
        }
    }

    /// <summary>A device is pulled out, without asking.</summary>
    public void Remove(string address)
    {
        lock (_kernel.Gate)
        {
            _kernel.Remove(_kernel.Find(address) ?? throw new ArgumentException($"There is no {address}.", nameof(address)));
            _kernel.Closed();
            Touch();
        }
    }

    /// <summary>Starts a process that has files open ("/dev/vfio/13", "/dev/nvme0n1"); its PID.</summary>
    public int StartProcess(string name, params string[] open)
    {
        lock (_kernel.Gate)
        {
            int pid = _state.NextPid++;
            _state.Processes[pid] = new SimulatedProcess(name, [.. open]);
            foreach (SimulatedFunction f in _state.Functions.Where(f => f.OnVfio && _kernel.IsOpen(f)))
                f.Dirty = true;
            Touch();
            return pid;
        }
    }

    /// <summary>A kernel whose VFIO has iommufd's device nodes only (CONFIG_VFIO_GROUP=n).</summary>
    public void DropVfioGroups()
    {
        lock (_kernel.Gate)
        {
            _state.VfioGroups = false;
            Touch();
        }
    }

    /// <summary>A process has files mapped, and not open any more.</summary>
    public void Map(int pid, params string[] paths)
    {
        lock (_kernel.Gate)
        {
            _state.Processes[pid].Maps.AddRange(paths);
            Touch();
        }
    }

    /// <summary>
    /// Moves a process into a network namespace ("net:[4026532555]") of its own; what its sysfs shows there is put with
    /// <see cref="PutLink"/>.
    /// </summary>
    public void MoveToNetNamespace(int pid, string netNamespace)
    {
        lock (_kernel.Gate)
        {
            _state.Processes[pid].NetNamespace = netNamespace;
            Touch();
        }
    }

    /// <summary>Builds a virtual block device on others.</summary>
    public void Stack(SimulatedStack stack)
    {
        lock (_kernel.Gate)
        {
            stack.Minor = _state.Stacks.Count;
            _state.Stacks.Add(stack);
            Touch();
        }
    }

    /// <summary>Names of the whole block devices that the agent has claimed now.</summary>
    public IReadOnlyList<string> ClaimedByAgent
    {
        get
        {
            lock (_kernel.Gate)
                return [.. _claimed];
        }
    }

    /// <summary>Puts a symbolic link on the host.</summary>
    public void PutLink(string path, string target)
    {
        lock (_kernel.Gate)
        {
            _state.Links[path] = target;
            Touch();
        }
    }

    /// <summary>Ends a process: writes that waited for it go on.</summary>
    public void StopProcess(int pid)
    {
        lock (_kernel.Gate)
        {
            _state.Processes.Remove(pid);
            _kernel.Closed();
            Touch();
        }
    }

    /// <summary>Puts a regular file on the host.</summary>
    public void PutFile(string path, string content) => PutFile(path, System.Text.Encoding.UTF8.GetBytes(content));

    /// <summary>Puts a regular file on the host.</summary>
    public void PutFile(string path, byte[] content)
    {
        lock (_kernel.Gate)
        {
            _state.Files[path] = content;
            Touch();
        }
    }

    /// <summary>Removes a regular file of the host.</summary>
    public void RemoveFile(string path)
    {
        lock (_kernel.Gate)
        {
            _state.Files.Remove(path);
            Touch();
        }
    }

    /// <summary>Gives the agent PID 1's namespaces, or others.</summary>
    public void SetAgentSeesHost(bool sees)
    {
        lock (_kernel.Gate)
        {
            _state.AgentSeesHost = sees;
            Touch();
        }
    }

    /// <summary>Whether the kernel has iommufd (/dev/iommu).</summary>
    public void SetIommufd(bool has)
    {
        lock (_kernel.Gate)
        {
            _state.Iommufd = has;
            Touch();
        }
    }

    /// <summary>Kills the agent, kill -9: its calls fail from now on; <see cref="Files"/> is for the next one.</summary>
    public void CrashAgent()
    {
        lock (_kernel.Gate)
        {
            _agent.Dead = true;
            _claimed.Clear();
            _agent = new AgentFiles(this);
        }
    }

    /// <summary>
    /// Power loss and boot: processes, VFs, overrides and bindings are forgotten, every device is on its host driver, loaded
    /// modules are those of boot; the files on disk stay.
    /// </summary>
    public void Reboot()
    {
        lock (_kernel.Gate)
        {
            _agent.Dead = true;
            _claimed.Clear();
            _agent = new AgentFiles(this);
            _state.Processes.Clear();
            _state.Functions.RemoveAll(f => f.PhysFn is not null);
            _state.Drivers = new SortedSet<string>(_state.BootDrivers, StringComparer.Ordinal);
            foreach (SimulatedFunction f in _state.Functions)
            {
                f.Override = null;
                f.UnbindingFrom = null;
                (f.ChosenResets, f.OffTheBus, f.Dirty, f.Locked) = (null, false, false, false);
                f.Driver = f.HostDriver is { } driver && !f.FailingDrivers.Contains(driver) ? driver : null;
                if (f.Sriov is not null)
                    (f.Sriov.NumVfs, f.Sriov.Autoprobe) = (0, true);
            }

            _state.BootId = BootIdOf(++_state.Boots);
            _kernel.Closed();
            Touch();
        }
    }

    private void Hold(SimulatedAccess access)
    {
        string address = access.Path.StartsWith("/sys/bus/pci/devices/", StringComparison.Ordinal)
            ? access.Path.Split('/')[5]
            : access.Value.Trim();
        string boot = _state.BootId;
        _held++;
        _kernel.Locked(
            access.Operation == SimulatedOperation.Write ? _kernel.Find(address) : null,
            () =>
            {
                while (Holds is not null && _state.BootId == boot)
                    Monitor.Wait(_kernel.Gate);
                _held--;
            }
        );
        if (_state.BootId != boot)
            throw new SimulatedCrashException();
    }

    internal static string BootIdOf(int boot) => $"b0070000-0000-4000-8000-{boot:x12}";

    private void Copy(string folder, string root)
    {
        Directory.CreateDirectory(root + folder);
        HashSet<string> folders = [.. Files.ListFolders(folder)];
        foreach (string name in Files.List(folder))
        {
            string path = $"{folder}/{name}";
            if (folders.Contains(name))
                Copy(path, root);
            else if (Files.ReadLink(path) is { } target)
                File.CreateSymbolicLink(root + path, target);
            else
                File.WriteAllBytes(root + path, Readable(path));
        }
    }

    private byte[] Readable(string path)
    {
        try
        {
            return Files.ReadBytes(path, int.MaxValue) ?? [];
        }
        catch (HostIoException)
        {
            return []; // write-only
        }
    }

    private FileTree Tree => _tree ??= SimulatedSysfs.Build(_state, _kernel, _resets);

    private void Touch()
    {
        _tree = null;
        Save();
    }

    private void Save()
    {
        if (_savedAt is null)
            return;
        string temporary = _savedAt + ".tmp";
        File.WriteAllBytes(temporary, JsonSerializer.SerializeToUtf8Bytes(_state));
        File.Move(temporary, _savedAt, overwrite: true);
    }

    private void Emit(Uevent uevent)
    {
        if (_muted)
            return;
        lock (_listeners)
        {
            foreach (Channel<Uevent> listener in _listeners)
                listener.Writer.TryWrite(uevent);
        }
    }

    private sealed class Events(SimulatedHost host) : IUeventSource
    {
        public async IAsyncEnumerable<Uevent> ReadAsync([EnumeratorCancellation] CancellationToken ct)
        {
            var channel = Channel.CreateUnbounded<Uevent>();
            lock (host._listeners)
                host._listeners.Add(channel);
            try
            {
                await foreach (Uevent uevent in channel.Reader.ReadAllAsync(ct))
                    yield return uevent;
            }
            finally
            {
                lock (host._listeners)
                    host._listeners.Remove(channel);
            }
        }
    }

    /// <summary>One agent's view of the host; it ends with the agent.</summary>
    private sealed class AgentFiles(SimulatedHost host) : IHostFileSystem
    {
        private int _reads = -1;
        private int _changes = -1;

        public volatile bool Dead;

        public bool Exists(string path) => Look(path, () => host.Tree.Find(path) is not null);

        public string? ReadText(string path)
        {
            byte[]? bytes = ReadBytes(path, int.MaxValue);
            return bytes is null
                ? null
                : System.Text.Encoding.UTF8.GetString(bytes is [.., (byte)'\n'] ? bytes.AsSpan(0, bytes.Length - 1) : bytes);
        }

        public byte[]? ReadBytes(string path, int max) =>
            Look(
                path,
                () =>
                    host.Tree.Find(path) switch
                    {
                        null => null,
                        FileTree.File { Read: { } read } => read() is var content && content.Length > max ? content[..max] : content,
                        FileTree.Folder => throw new HostIoException("read", path, Errnos.EISDIR),
                        _ => throw new HostIoException("read", path, Errnos.EACCES),
                    }
            );

        public string? ReadLink(string path) => Look(path, () => (host.Tree.Find(path, followLast: false) as FileTree.Link)?.Target);

        public IReadOnlyList<string> List(string path) =>
            Look<IReadOnlyList<string>>(
                path,
                () => host.Tree.Find(path) is FileTree.Folder folder ? [.. folder.Entries.Keys.Order(StringComparer.Ordinal)] : []
            );

        public IReadOnlyList<string> ListFolders(string path) =>
            Look<IReadOnlyList<string>>(
                path,
                () =>
                    host.Tree.Find(path) is FileTree.Folder folder
                        ? [.. folder.Entries.Where(e => e.Value is FileTree.Folder).Select(e => e.Key).Order(StringComparer.Ordinal)]
                        : []
            );

        public DeviceNumber? DeviceAt(string path) => Look(path, () => (host.Tree.Find(path) as FileTree.Node)?.Number);

        public IDisposable? ClaimBlockDevice(string node) =>
            Look(
                node,
                () =>
                {
                    if (host.Tree.Find(node) is not FileTree.Node { Number: { IsBlock: true } number })
                        throw new HostIoException("open", node, Errnos.ENOENT);
                    SimulatedDisk disk = host._state.Functions.SelectMany(f => f.Disks).First(d => SimulatedSysfs.NumberOf(d) == number);
                    List<SimulatedDisk> parts =
                    [
                        disk,
                        .. host._state.Functions.SelectMany(f => f.Disks).Where(d => d.PartitionOf == disk.Name),
                    ];
                    bool used = parts.Any(d => d.InUse) || host._state.Stacks.Any(s => s.On.Any(on => parts.Any(d => d.Name == on)));
                    return !used && host._claimed.Add(disk.Name) ? new BlockClaim(host, disk.Name) : null;
                }
            );

        public DeviceNumber? LoopedDevice(string node) =>
            Look(
                node,
                () =>
                    host.Tree.Find($"/sys/class/block/{node["/dev/".Length..]}/loop/backing_file") is FileTree.File { Read: { } backing }
                    && host.Tree.Find(System.Text.Encoding.UTF8.GetString(backing()).TrimEnd('\n'))
                        is FileTree.Node { Number: { IsBlock: true } number }
                        ? number
                        : (DeviceNumber?)null
            );

        public HostNetwork ReadNetwork() => Look("rtnetlink", () => SimulatedNetwork.Read(host._state));

        public void Write(string path, string value) =>
            Act(
                SimulatedOperation.Write,
                path,
                value,
                () =>
                {
                    int errno = 0;
                    try
                    {
                        FileTree.Entry? entry = host.Tree.Find(path);
                        if (entry is not FileTree.File { Write: { } write })
                        {
                            throw new HostIoException(
                                $"write '{value.TrimEnd('\n')}' to",
                                path,
                                entry is null ? Errnos.ENOENT : Errnos.EACCES
                            );
                        }

                        write(value);
                        host.Touch();
                    }
                    catch (HostIoException e)
                    {
                        errno = e.Errno;
                        host.Touch();
                        throw new HostIoException($"write '{value.TrimEnd('\n')}' to", path, errno);
                    }
                    finally
                    {
                        host._log.Add(new SysfsWrite(path, value.TrimEnd('\n'), errno));
                    }
                }
            );

        public void WriteDurably(string path, ReadOnlySpan<byte> content)
        {
            byte[] copy = content.ToArray();
            Act(
                SimulatedOperation.WriteDurably,
                path,
                System.Text.Encoding.UTF8.GetString(copy),
                () =>
                {
                    host._state.Files[path] = copy;
                    if (host._tree is { } tree)
                        SimulatedSysfs.PutFile(tree, path, copy);
                    host.Save();
                }
            );
        }

        // Modes are not simulated.
        public void WriteForOthers(string path, ReadOnlySpan<byte> content) => WriteDurably(path, content);

        // A folder is there as long as something is in it.
        public void DeleteEmptyFolder(string path) => CheckAlive();

        public void Delete(string path) =>
            Act(
                SimulatedOperation.Delete,
                path,
                "",
                () =>
                {
                    host._state.Files.Remove(path);
                    host.Touch();
                }
            );

        public string? TakeFolder(string folder)
        {
            CheckAlive();
            lock (host._kernel.Gate)
            {
                if (host._taker is { Dead: false } other && other != this)
                    return $"process {SimulatedSysfs.AgentPid} (agent)";
                host._taker = this;
                return null;
            }
        }

        public void LoadModule(string name) =>
            Act(
                SimulatedOperation.LoadModule,
                name,
                "",
                () =>
                {
                    string driver = name.Replace('_', '-');
                    if (name.StartsWith("pci:", StringComparison.Ordinal))
                        return;
                    if (!host._state.Loadable.Contains(driver))
                    {
                        throw new HostIoException(
                            "modprobe",
                            name,
                            0,
                            $"modprobe {name} failed with exit code 1: FATAL: Module {name} not found in directory /lib/modules/{host._state.KernelVersion}"
                        );
                    }

                    host._state.Drivers.Add(driver);
                    host.Touch();
                }
            );

        public VfSettings? ReadVfSettings(string pfInterface, int vf) =>
            Look($"rtnetlink/{pfInterface}/vf{vf}", () => host._kernel.VfOf(pfInterface, vf)?.VfSettings);

        public IReadOnlyDictionary<int, VfTraffic> ReadVfTraffic(string pfInterface) =>
            Look($"rtnetlink/{pfInterface}/traffic", () => host._kernel.TrafficOf(pfInterface));

        public void WriteVfSettings(string pfInterface, int vf, VfSettings settings)
        {
            string path = $"rtnetlink/{pfInterface}/vf{vf}";
            Act(
                SimulatedOperation.Write,
                path,
                settings.ToString(),
                () =>
                {
                    int errno = 0;
                    try
                    {
                        host._kernel.WriteVfSettings(pfInterface, vf, settings);
                        host.Touch();
                    }
                    catch (HostIoException e)
                    {
                        errno = e.Errno;
                        throw;
                    }
                    finally
                    {
                        host._log.Add(new SysfsWrite(path, settings.ToString(), errno));
                    }
                }
            );
        }

        public byte[] ReadConfigThroughVfio(PciAddress address, int group, int count) =>
            Look($"/dev/vfio/{group}", () => host._resets.ReadConfig(address, group)[..count]);

        public IReadOnlyList<PciAddress> HotResetTargets(PciAddress address, int group) =>
            Look($"/dev/vfio/{group}", () => host._resets.HotResetTargets(address, group));

        public void HotReset(PciAddress address, IReadOnlyList<int> groups) =>
            Act(
                SimulatedOperation.HotReset,
                address.ToString(),
                "",
                () =>
                {
                    int errno = 0;
                    try
                    {
                        host._resets.HotReset(address, groups);
                    }
                    catch (HostIoException e)
                    {
                        errno = e.Errno;
                        throw;
                    }
                    finally
                    {
                        host._log.Add(new SysfsWrite($"hot reset of {address}", string.Join(' ', groups), errno));
                        host.Touch();
                    }
                }
            );

        private sealed class BlockClaim(SimulatedHost host, string name) : IDisposable
        {
            public void Dispose()
            {
                lock (host._kernel.Gate)
                    host._claimed.Remove(name);
            }
        }

        private T Look<T>(string path, Func<T> read)
        {
            CheckAlive();
            int index = Interlocked.Increment(ref _reads);
            host.Fault?.Invoke(new SimulatedAccess(SimulatedOperation.Read, path, "", Before: true, index));
            CheckAlive();
            T result;
            lock (host._kernel.Gate)
                result = read();
            host.Fault?.Invoke(new SimulatedAccess(SimulatedOperation.Read, path, "", Before: false, index));
            CheckAlive();
            return result;
        }

        private void Act(SimulatedOperation operation, string path, string value, Action change)
        {
            CheckAlive();
            int index = Interlocked.Increment(ref _changes);
            host.Fault?.Invoke(new SimulatedAccess(operation, path, value, Before: true, index));
            CheckAlive();
            HostIoException? refused = null;
            try
            {
                lock (host._kernel.Gate)
                {
                    var access = new SimulatedAccess(operation, path, value, Before: true, index);
                    if (host.Holds?.Invoke(access) == true)
                    {
                        host.Hold(access);

                        // Replacing a file takes several calls: one that hangs is the dead agent's last.
                        if (operation != SimulatedOperation.Write)
                            CheckAlive();
                    }

                    change();
                }
            }
            catch (HostIoException e)
            {
                refused = e;
            }

            // Also after what the kernel refused: the agent may end before it hears of it.
            host.Fault?.Invoke(new SimulatedAccess(operation, path, value, Before: false, index));
            CheckAlive();
            if (refused is not null)
                throw refused;
        }

        private void CheckAlive()
        {
            if (Dead)
                throw new SimulatedCrashException();
        }
    }
}
