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
    private const string Script = "script";

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
    /// <exception cref="IOException">A VF is not on the driver where it should be.</exception>
    public void Run(int rounds)
    {
        Console.WriteLine($"{_vfs.Length} VFs: {string.Join(", ", _vfs.GroupBy(vf => vf.Driver ?? "no driver").Select(group => $"{group.Count()} on {group.Key}"))}");
        (string Name, Action<Action<Vf>> All)[] ways = [("all at once", AllAtOnce), ("one by one", OneByOne)];
        (string Name, Action<Vf> Bind, Action<Vf> GiveBack)[] contenders =
        [
            ("PassthroughHost", vf => Prepare(vf, ResetMode.Skip), Release),
            ("PassthroughHost with reset", vf => Prepare(vf, ResetMode.BestEffort), Release),
            (Script, vf => Write(vf, vf.Driver, VfioPci), vf => Write(vf, VfioPci, null)),
        ];
        var times = new Dictionary<(string Way, string Contender, string Step), List<Cost>>();
        for (var round = 0; round <= rounds; round++)
        {
            foreach (var (way, all) in ways)
            {
                // Who goes first alternates; round 0 only warms up.
                foreach (var (name, bind, giveBack) in round % 2 == 0 ? contenders : contenders.Reverse())
                {
                    Time("bind", bind, vf => VfioPci);
                    Time("give back", giveBack, vf => vf.Driver);

                    void Time(string step, Action<Vf> work, Func<Vf, string?> driverAfter)
                    {
                        var cost = Cost.Of(() => all(work));
                        foreach (var vf in _vfs)
                        {
                            if (DriverOf(vf) != driverAfter(vf))
                                throw new IOException($"{vf.Function.Address} is on {DriverOf(vf) ?? "no driver"} instead of {driverAfter(vf) ?? "none"} after: {step}, {name}, {way}");
                        }
                        if (!times.TryGetValue((way, name, step), out var known))
                            times[(way, name, step)] = known = [];
                        if (round > 0)
                            known.Add(cost);
                    }
                }
            }
        }

        foreach (var (way, _) in ways)
        {
            foreach (var step in new[] { "bind", "give back" })
            {
                var script = Cost.Median(times[(way, Script, step)]);
                Console.WriteLine($"{step}, {way}: {Script} {script}");
                foreach (var (name, _, _) in contenders.Where(contender => contender.Name != Script))
                {
                    var host = Cost.Median(times[(way, name, step)]);
                    Console.WriteLine($"{step}, {way}: {name} {host}, ratio {host.Wall / script.Wall:0.00}");
                }
            }
        }
        Console.WriteLine("measured");
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
