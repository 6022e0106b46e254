using System.Diagnostics;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Vm.Guest;

/// <summary>
/// What journal, guards and read-back cost: every VF of the host is bound to vfio-pci and given back, by a
/// <see cref="PassthroughHost"/> (one claim a VF) and by a script that only writes the same files, all at once and one by
/// one, in turns on the same host. Prints medians and ratios.
/// </summary>
internal sealed class Measurement
{
    private const string VfioPci = "vfio-pci";

    private readonly LinuxFileSystem _files = new();
    private readonly PassthroughHost _host;
    private readonly Vf[] _vfs;

    /// <param name="state">A folder for the journal, on a disk.</param>
    public Measurement(string state)
    {
        _host = new PassthroughHost(_files, state);
        _vfs = [.. _host.Scan().Functions.Where(f => f.Function.ParentAddress is not null).Select(f => new Vf(f.Function, f.Driver))];
    }

    /// <summary>Runs all rounds and prints what they took.</summary>
    /// <param name="rounds">How often all VFs are bound and given back at once; one by one it is done once, and with resets too.</param>
    /// <exception cref="IOException">A VF is not on the driver where it should be.</exception>
    public void Run(int rounds)
    {
        Console.WriteLine($"{_vfs.Length} VFs: {string.Join(", ", _vfs.GroupBy(vf => vf.Driver ?? "no driver").Select(group => $"{group.Count()} on {group.Key}"))}");
        var host = new Contender("PassthroughHost", vf => Prepare(vf, ResetMode.Skip), Release);
        var script = new Contender("script", vf => Write(vf, vf.Driver, VfioPci), vf => Write(vf, VfioPci, null));
        var withResets = new Contender("PassthroughHost with resets", vf => Prepare(vf, ResetMode.BestEffort), Release);

        // The first of all is not counted: it opens each VF through VFIO, and the program is not warm.
        Compare("all at once", AllAtOnce, 0, host, script);
        Compare("all at once", AllAtOnce, rounds, host, script);
        Compare("one by one", OneByOne, 1, host, script);
        Compare("all at once", AllAtOnce, 1, withResets, script);
        Console.WriteLine("measured");
    }

    /// <summary>Lets both do the same in turns; who goes first alternates.</summary>
    /// <param name="way">In words.</param>
    /// <param name="all">Does something with all VFs.</param>
    /// <param name="rounds">How often; 0: once, and nothing is printed.</param>
    /// <param name="ours">Ours.</param>
    /// <param name="theirs">What ours is compared with.</param>
    private void Compare(string way, Action<Action<Vf>> all, int rounds, Contender ours, Contender theirs)
    {
        var costs = new Dictionary<(Contender, string), List<Cost>>();
        for (var round = 0; round < Math.Max(rounds, 1); round++)
        {
            foreach (var contender in round % 2 == 0 ? new[] { ours, theirs } : [theirs, ours])
            {
                Time(contender, "bind", contender.Bind, _ => VfioPci);
                Time(contender, "give back", contender.GiveBack, vf => vf.Driver);
            }
        }

        if (rounds == 0)
            return;
        foreach (var step in new[] { "bind", "give back" })
        {
            var (mine, other) = (Cost.Median(costs[(ours, step)]), Cost.Median(costs[(theirs, step)]));
            Console.WriteLine($"{step}, {way}: {ours.Name} {mine}; {theirs.Name} {other}; ratio {mine.Wall / other.Wall:0.00}");
        }

        void Time(Contender contender, string step, Action<Vf> work, Func<Vf, string?> driverAfter)
        {
            var cost = Cost.Of(() => all(work));
            foreach (var vf in _vfs)
            {
                if (DriverOf(vf) != driverAfter(vf))
                    throw new IOException($"{vf.Function.Address} is on {DriverOf(vf) ?? "no driver"} instead of {driverAfter(vf) ?? "none"} after: {step}, {contender.Name}, {way}");
            }
            if (!costs.TryGetValue((contender, step), out var known))
                costs[(contender, step)] = known = [];
            known.Add(cost);
        }
    }

    private void AllAtOnce(Action<Vf> work)
    {
        Exception? failure = null;
        Thread[] threads = [.. _vfs.Select(vf => new Thread(() =>
        {
            try
            {
                work(vf);
            }
#pragma warning disable CA1031 // thrown again by the thread that waits
            catch (Exception error)
#pragma warning restore CA1031
            {
                failure = error;
            }
        }))];
        foreach (var thread in threads)
            thread.Start();
        foreach (var thread in threads)
            thread.Join();
        if (failure is not null)
            throw new IOException(failure.Message, failure);
    }

    private void OneByOne(Action<Vf> work)
    {
        foreach (var vf in _vfs)
            work(vf);
    }

    private void Prepare(Vf vf, ResetMode reset)
    {
        var holding = _host.PrepareAsync(new()
        {
            ClaimUid = vf.ClaimUid,
            ClaimNamespace = "default",
            ClaimName = vf.ClaimUid,
            Devices = [new()
            {
                Address = vf.Function.Address,
                VendorId = vf.Function.VendorId,
                ProductId = vf.Function.ProductId,
                StableId = vf.Function.StableId,
                IommuGroup = vf.Function.IommuGroup,
                Reset = reset,
            }],
        }).GetAwaiter().GetResult();
        if (holding.State != HoldingState.Prepared)
            throw new IOException($"{vf.Function.Address}: {holding.State}: {holding.Message}");
    }

    private void Release(Vf vf)
    {
        if (_host.ReleaseAsync(vf.ClaimUid).GetAwaiter().GetResult() is { } left)
            throw new IOException($"{vf.Function.Address}: {left.State}: {left.Message}");
    }

    /// <summary>What a script does: override, unbind, probe.</summary>
    private void Write(Vf vf, string? from, string? to)
    {
        _files.Write($"{vf.Folder}/driver_override", to ?? "\n");
        if (from is not null)
            _files.Write($"{vf.Folder}/driver/unbind", vf.Function.Address.ToString());
        if (to is not null || vf.Driver is not null)
            _files.Write("/sys/bus/pci/drivers_probe", vf.Function.Address.ToString());
    }

    private string? DriverOf(Vf vf) => _files.ReadLink($"{vf.Folder}/driver")?.Split('/')[^1];

    /// <param name="Name">For the report.</param>
    /// <param name="Bind">Brings a VF to vfio-pci.</param>
    /// <param name="GiveBack">Brings it back to its own driver.</param>
    private sealed record Contender(string Name, Action<Vf> Bind, Action<Vf> GiveBack);

    private sealed record Vf(PciFunction Function, string? Driver)
    {
        public string Folder { get; } = $"/sys/bus/pci/devices/{Function.Address}";

        public string ClaimUid { get; } = $"vf-{Function.Address.ToString().Replace(':', '-')}";
    }

    /// <param name="Wall">Milliseconds until all was done.</param>
    /// <param name="User">Milliseconds of processor time in our own code.</param>
    /// <param name="Kernel">Milliseconds of processor time in the kernel for us.</param>
    private sealed record Cost(double Wall, double User, double Kernel)
    {
        public static Cost Of(Action work)
        {
            using var process = Process.GetCurrentProcess();
            var (user, kernel, watch) = (process.UserProcessorTime, process.PrivilegedProcessorTime, Stopwatch.StartNew());
            work();
            var wall = watch.Elapsed;
            process.Refresh();
            return new(wall.TotalMilliseconds, (process.UserProcessorTime - user).TotalMilliseconds, (process.PrivilegedProcessorTime - kernel).TotalMilliseconds);
        }

        public static Cost Median(List<Cost> costs) => costs.OrderBy(cost => cost.Wall).ElementAt(costs.Count / 2);

        public override string ToString() => $"{Wall:0} ms (processors: {User:0} ms own code, {Kernel:0} ms kernel)";
    }
}
