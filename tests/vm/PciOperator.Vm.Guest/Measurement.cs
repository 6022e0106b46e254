using System.Diagnostics;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Vm.Guest;

/// <summary>
/// What journal, guards and read-back cost: every VF of the host is bound to vfio-pci and given back, by a <see cref="PassthroughHost"/>
/// (one claim a VF), by a shell script that only writes the same files, by threads of this process that make just those writes, and by
/// threads that also put on disk, durably, what a journal must have before and after: in a file for each claim, and in one log for all. All
/// at once and one by one, in turns on the same host. Prints medians and ratios.
/// </summary>
internal sealed class Measurement : IDisposable
{
    private const string VfioPci = "vfio-pci",
        ScriptFile = "/run/bind.sh";

    // As long as a claim's entry is.
    private static readonly byte[] Entry = new byte[600];

    private readonly LinuxFileSystem _files = new();
    private readonly PassthroughHost _host;
    private readonly Vf[] _vfs;
    private readonly SharedLog _log;

    /// <param name="state">A folder for the journal, on a disk.</param>
    public Measurement(string state)
    {
        _host = new PassthroughHost(_files, state);
        _log = new SharedLog($"{state}/log");
        _vfs =
        [
            .. _host.Scan().Functions.Where(f => f.Function.ParentAddress is not null).Select(f => new Vf(f.Function, f.Driver, state)),
        ];
    }

    /// <summary>Runs all rounds and prints what they took.</summary>
    /// <param name="rounds">How often all VFs are bound and given back at once; one by one it is done once.</param>
    /// <exception cref="IOException">A VF is not on the driver where it should be.</exception>
    public void Run(int rounds)
    {
        Console.WriteLine(
            $"{_vfs.Length} VFs: {string.Join(", ", _vfs.GroupBy(vf => vf.Driver ?? "no driver").Select(group => $"{group.Count()} on {group.Key}"))}"
        );
        var host = new Contender("PassthroughHost", EachAsync(PrepareAsync), EachAsync(ReleaseAsync));
        var script = new Contender(
            "script",
            atOnce => RunScript(atOnce, vf => Writes(vf, vf.Driver, VfioPci)),
            atOnce => RunScript(atOnce, vf => Writes(vf, VfioPci, null))
        );
        Contender threads = Threads("bare writes", _ => { }, _ => { });
        Contender journal = Threads("bare writes and a journal", vf => _files.WriteDurably(vf.Entry, Entry), vf => _files.Delete(vf.Entry));
        Contender log = Threads("bare writes and one log", _ => _log.Append(Entry), _ => _log.Append(Entry));

        // The first of all is not counted: the program is not warm.
        Compare(atOnce: true, 0, host, script, threads, journal, log);
        Compare(atOnce: true, rounds, host, script, threads, journal, log);
        Compare(atOnce: false, 1, host, script, threads, journal, log);
        Console.WriteLine("measured");
    }

    public void Dispose() => _log.Dispose();

    /// <summary>Lets all do the same in turns; who goes first alternates.</summary>
    /// <param name="atOnce">All VFs at once, or one by one.</param>
    /// <param name="rounds">How often; 0: once, and nothing is printed.</param>
    /// <param name="ours">Ours.</param>
    /// <param name="theirs">What ours is compared with.</param>
    private void Compare(bool atOnce, int rounds, Contender ours, params Contender[] theirs)
    {
        string way = atOnce ? "all at once" : "one by one";
        Contender[] all = [ours, .. theirs];
        var costs = new Dictionary<(Contender, string), List<Cost>>();
        for (int round = 0; round < Math.Max(rounds, 1); round++)
        {
            foreach (Contender? contender in round % 2 == 0 ? all : all.Reverse())
            {
                Time(contender, "bind", contender.Bind, _ => VfioPci);
                Time(contender, "give back", contender.GiveBack, vf => vf.Driver);
            }
        }

        if (rounds == 0)
            return;
        foreach (string step in new[] { "bind", "give back" })
        {
            var mine = Cost.Median(costs[(ours, step)]);
            Console.WriteLine($"{step}, {way}: {ours.Name} {mine}");
            foreach (Contender other in theirs)
            {
                var cost = Cost.Median(costs[(other, step)]);
                Console.WriteLine($"  {other.Name} {cost}; ratio {mine.Wall / cost.Wall:0.00}");
            }
        }

        void Time(Contender contender, string step, Action<bool> work, Func<Vf, string?> driverAfter)
        {
            var cost = Cost.Of(() => work(atOnce));
            foreach (Vf vf in _vfs)
            {
                if (DriverOf(vf) != driverAfter(vf))
                {
                    throw new IOException(
                        $"{vf.Function.Address} is on {DriverOf(vf) ?? "no driver"} instead of {driverAfter(vf) ?? "none"} after: {step}, {contender.Name}, {way}"
                    );
                }
            }

            if (!costs.TryGetValue((contender, step), out List<Cost>? known))
                costs[(contender, step)] = known = [];
            known.Add(cost);
        }
    }

    /// <summary>As the agent does it: it waits for none of its claims with a thread.</summary>
    private Action<bool> EachAsync(Func<Vf, Task> work) =>
        atOnce =>
        {
            if (atOnce)
                Task.WhenAll(_vfs.Select(work)).GetAwaiter().GetResult();
            else
                Array.ForEach(_vfs, vf => work(vf).GetAwaiter().GetResult());
        };

    private Action<bool> Each(Action<Vf> work) =>
        atOnce =>
        {
            if (atOnce)
                AllAtOnce(work);
            else
                Array.ForEach(_vfs, vf => work(vf));
        };

    private void AllAtOnce(Action<Vf> work)
    {
        Exception? failure = null;
        Thread[] threads =
        [
            .. _vfs.Select(vf => new Thread(() =>
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
            })),
        ];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
        if (failure is not null)
            throw new IOException(failure.Message, failure);
    }

    private async Task PrepareAsync(Vf vf)
    {
        Holding holding = await _host.PrepareAsync(
            new()
            {
                ClaimUid = vf.ClaimUid,
                ClaimNamespace = "default",
                ClaimName = vf.ClaimUid,
                Devices =
                [
                    new()
                    {
                        Address = vf.Function.Address,
                        VendorId = vf.Function.VendorId,
                        ProductId = vf.Function.ProductId,
                        StableId = vf.Function.StableId,
                        IommuGroup = vf.Function.IommuGroup,
                        Reset = ResetMode.Skip,
                    },
                ],
            }
        );
        if (holding.State != HoldingState.Prepared)
            throw new IOException($"{vf.Function.Address}: {holding.State}: {holding.Message}");
    }

    private async Task ReleaseAsync(Vf vf)
    {
        if (await _host.ReleaseAsync(vf.ClaimUid) is { } left)
            throw new IOException($"{vf.Function.Address}: {left.State}: {left.Message}");
    }

    /// <summary>What a script does: override, unbind, probe.</summary>
    private static IEnumerable<(string Path, string Text)> Writes(Vf vf, string? from, string? to)
    {
        yield return ($"{vf.Folder}/driver_override", to ?? "");
        if (from is not null)
            yield return ($"{vf.Folder}/driver/unbind", vf.Function.Address.ToString());
        if (to is not null || vf.Driver is not null)
            yield return ("/sys/bus/pci/drivers_probe", vf.Function.Address.ToString());
    }

    private void Write(IEnumerable<(string Path, string Text)> writes)
    {
        foreach ((string path, string text) in writes)
            _files.Write(path, text + "\n");
    }

    /// <summary>Threads that make the writes between what they note, durably, before and after.</summary>
    /// <param name="name">For the report.</param>
    /// <param name="note">Notes what is about to be done to a VF, or what was.</param>
    /// <param name="end">Notes that a VF was given back.</param>
    private Contender Threads(string name, Action<Vf> note, Action<Vf> end) =>
        new(
            name,
            Each(vf =>
            {
                note(vf);
                Write(Writes(vf, vf.Driver, VfioPci));
                note(vf);
            }),
            Each(vf =>
            {
                note(vf);
                Write(Writes(vf, VfioPci, null));
                end(vf);
            })
        );

    /// <summary>The same writes by echo, in a subshell for each VF.</summary>
    private void RunScript(bool atOnce, Func<Vf, IEnumerable<(string Path, string Text)>> writes)
    {
        IEnumerable<string> lines = _vfs.Select(vf =>
            $"({string.Join("; ", writes(vf).Select(w => $"echo {w.Text} > {w.Path}"))}){(atOnce ? " &" : "")}"
        );
        File.WriteAllLines(ScriptFile, lines.Append("wait"));
        using var shell = Process.Start("/bin/sh", [ScriptFile]);
        shell.WaitForExit();
        if (shell.ExitCode != 0)
            throw new IOException($"the script ended with {shell.ExitCode}");
    }

    private string? DriverOf(Vf vf) => _files.ReadLink($"{vf.Folder}/driver")?.Split('/')[^1];

    /// <param name="Name">For the report.</param>
    /// <param name="Bind">Brings all VFs to vfio-pci, at once or one by one.</param>
    /// <param name="GiveBack">Brings them back to their own drivers.</param>
    private sealed record Contender(string Name, Action<bool> Bind, Action<bool> GiveBack);

    private sealed record Vf(PciFunction Function, string? Driver, string State)
    {
        public string Folder { get; } = $"/sys/bus/pci/devices/{Function.Address}";

        public string ClaimUid { get; } = $"vf-{Function.Address.ToString().Replace(':', '-')}";

        /// <summary>A file for the entries of a journal of one's own.</summary>
        public string Entry => $"{State}/floor/{ClaimUid}.json";
    }

    /// <param name="Wall">Milliseconds until all was done.</param>
    /// <param name="User">Milliseconds of processor time in our own code.</param>
    /// <param name="Kernel">Milliseconds of processor time in the kernel for us.</param>
    private sealed record Cost(double Wall, double User, double Kernel)
    {
        public static Cost Of(Action work)
        {
            using var process = Process.GetCurrentProcess();
            (TimeSpan user, TimeSpan kernel, Stopwatch? watch) = (
                process.UserProcessorTime,
                process.PrivilegedProcessorTime,
                Stopwatch.StartNew()
            );
            work();
            TimeSpan wall = watch.Elapsed;
            process.Refresh();
            return new(
                wall.TotalMilliseconds,
                (process.UserProcessorTime - user).TotalMilliseconds,
                (process.PrivilegedProcessorTime - kernel).TotalMilliseconds
            );
        }

        public static Cost Median(List<Cost> costs) => costs.OrderBy(cost => cost.Wall).ElementAt(costs.Count / 2);

        public override string ToString() => $"{Wall:0} ms (processors: {User:0} ms own code, {Kernel:0} ms kernel)";
    }
}
