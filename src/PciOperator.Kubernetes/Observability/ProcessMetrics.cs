using System.Diagnostics;
using System.Globalization;

namespace PciOperator.Kubernetes;

/// <summary>What Prometheus' client libraries say of a process, and the garbage collector's counts.</summary>
internal static class ProcessMetrics
{
    public static void AddTo(MetricsRegistry metrics)
    {
        var cpu = metrics.Counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
        var resident = metrics.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
        var open = metrics.Gauge("process_open_fds", "Number of open file descriptors.");
        var max = metrics.Gauge("process_max_fds", "Maximum number of open file descriptors.");
        var threads = metrics.Gauge("process_threads", "Number of OS threads in the process.");
        var collections = metrics.Counter("dotnet_gc_collections_total", "Number of garbage collections, by generation.", "generation");
        var heap = metrics.Gauge("dotnet_gc_heap_bytes", "Bytes on the managed heap.");
        metrics.Gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
            .Set(new DateTimeOffset(Process.GetCurrentProcess().StartTime).ToUnixTimeMilliseconds() / 1000.0);
        if (MaxOpenFiles() is { } limit)
            max.Set(limit);
        metrics.OnCollect(() =>
        {
            cpu.SetTotal(Environment.CpuUsage.TotalTime.TotalSeconds);
            resident.Set(Environment.WorkingSet);
            using var self = Process.GetCurrentProcess();
            threads.Set(self.Threads.Count);
            // The listing itself holds one open.
            open.Set(Directory.EnumerateFileSystemEntries("/proc/self/fd").Count() - 1);
            heap.Set(GC.GetTotalMemory(false));
            for (var generation = 0; generation <= GC.MaxGeneration; generation++)
                collections.SetTotal(GC.CollectionCount(generation), generation.ToString(CultureInfo.InvariantCulture));
        });
    }

    private static double? MaxOpenFiles()
    {
        var line = File.ReadLines("/proc/self/limits").FirstOrDefault(l => l.StartsWith("Max open files", StringComparison.Ordinal));
        var soft = line?.Split(' ', StringSplitOptions.RemoveEmptyEntries).ElementAtOrDefault(3);
        return double.TryParse(soft, CultureInfo.InvariantCulture, out var value) ? value : null;
    }
}
