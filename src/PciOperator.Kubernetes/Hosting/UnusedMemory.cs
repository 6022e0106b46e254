using System.Globalization;
using System.Runtime.InteropServices;

namespace PciOperator.Kubernetes;

/// <summary>
/// Gives memory back when a program has nothing to do. A program allocates most when it starts and when much happens at once, and then
/// idles for hours: without allocations the garbage collector has no reason to run, and what was garbage at the end of the work stays.
/// </summary>
internal sealed class UnusedMemory : IAsyncDisposable
{
    /// <summary>How often is looked.</summary>
    public static readonly TimeSpan Period = TimeSpan.FromSeconds(5);

    // Less than this in a period is no work.
    private const long Quiet = 512 * 1024;

    // Less than this is not worth a collection.
    private const long Worthwhile = 4 * 1024 * 1024;

    private readonly PeriodicTimer _timer;
    private readonly Func<long> _allocated;
    private readonly Action _giveBack;
    private readonly Task _running;
    private long _before;
    private long _givenBackAt;

    /// <param name="time">Clock.</param>
    /// <param name="giveBack">Gives back what isn't used.</param>
    /// <param name="allocated">What was allocated since the start, in bytes; null: as the garbage collector says.</param>
    public UnusedMemory(TimeProvider time, Action giveBack, Func<long>? allocated = null)
    {
        _timer = new PeriodicTimer(Period, time);
        _allocated = allocated ?? (() => GC.GetTotalAllocatedBytes());
        _giveBack = giveBack;
        _running = RunAsync();
    }

    /// <summary>Collects all generations, and returns what is free to the kernel.</summary>
    public static void GiveBack()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        ProgramPages.Release();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _timer.Dispose();
        await _running;
    }

    private async Task RunAsync()
    {
        while (await _timer.WaitForNextTickAsync())
            Look();
    }

    /// <summary>Gives back what isn't used, when nothing has happened since the last look and enough before it.</summary>
    internal void Look()
    {
        long now = _allocated();
        if (now - _before < Quiet && now - _givenBackAt >= Worthwhile)
        {
            _giveBack();
            _givenBackAt = _allocated();
        }

        _before = now;
    }
}

/// <summary>
/// The pages of the program's own file that are mapped into it. Start touches nearly all of a NativeAOT program (15 of 17 MB); what idles
/// needs a quarter. Pages that are let go stay in the kernel's cache, from where a use brings them back without reading the disk.
/// </summary>
internal static partial class ProgramPages
{
    private const int DontNeed = 4; // MADV_DONTNEED, madvise(2)

    /// <summary>Lets go all pages that hold nothing but what the file holds. Best effort: nothing depends on it.</summary>
    public static void Release()
    {
        // Under the runtime with a JIT the program's file is dotnet's, and its code is elsewhere.
        if (System.Runtime.CompilerServices.RuntimeFeature.IsDynamicCodeSupported || Environment.ProcessPath is not { } program)
            return;
        try
        {
            foreach ((nint start, nint length) in Untouched(File.ReadAllLines("/proc/self/smaps"), program))
                _ = Advise(start, length, DontNeed);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Nothing is let go.
        }
    }

    /// <summary>
    /// Mappings of the program's file that can't be written and of which no page is the process's own: those are the file's bytes. A page
    /// that was relocated is not ("Anonymous" counts it, or "Swap" when it was swapped out), and would come back without its relocations.
    /// </summary>
    internal static IEnumerable<(nint Start, nint Length)> Untouched(IEnumerable<string> smaps, string program)
    {
        (nint Start, nint Length)? candidate = null;
        bool anonymous = true;
        foreach (string line in smaps)
        {
            // 55d6cd000000-55d6cd600000 r--p 00000000 fe:00 1234      /app/pcioperator-agent
            if (
                line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries) is [var range, var rights, _, _, _, var path]
                && range.Split('-') is [var from, var to]
            )
            {
                candidate = path == program && rights is "r--p" or "r-xp" ? (Address(from), Address(to) - Address(from)) : null;
                anonymous = true;
            }
            else if (line.StartsWith("Anonymous:", StringComparison.Ordinal))
            {
                anonymous = !line.EndsWith(" 0 kB", StringComparison.Ordinal);
            }
            else if (
                line.StartsWith("Swap:", StringComparison.Ordinal)
                && !anonymous
                && candidate is { } found
                && line.EndsWith(" 0 kB", StringComparison.Ordinal)
            )
            {
                yield return found;
            }
        }
    }

    private static nint Address(string hex) => nint.Parse(hex, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(nint address, nint length, int advice);
}
