using System.Diagnostics;
using System.Globalization;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>What Prometheus' client libraries say of a process, and the garbage collector's counts.</summary>
internal static class ProcessMetrics
{
    public static void AddTo(CollectorRegistry metrics)
    {
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        Counter cpu = factory.CreateCounter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
        Gauge resident = factory.CreateGauge("process_resident_memory_bytes", "Resident memory size in bytes.");
        Gauge open = factory.CreateGauge("process_open_fds", "Number of open file descriptors.");
        Gauge max = factory.CreateGauge("process_max_fds", "Maximum number of open file descriptors.");
        Gauge threads = factory.CreateGauge("process_threads", "Number of OS threads in the process.");
        Counter collections = factory.CreateCounter(
            "dotnet_gc_collections_total",
            "Number of garbage collections, by generation.",
            ["generation"]
        );
        Gauge heap = factory.CreateGauge("dotnet_gc_heap_bytes", "Bytes on the managed heap.");
        factory
            .CreateGauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
            .Set(new DateTimeOffset(Process.GetCurrentProcess().StartTime).ToUnixTimeMilliseconds() / 1000.0);
        if (MaxOpenFiles() is { } limit)
            max.Set(limit);
        metrics.AddBeforeCollectCallback(() =>
        {
            cpu.IncTo(Environment.CpuUsage.TotalTime.TotalSeconds);
            resident.Set(Environment.WorkingSet);
            using var self = Process.GetCurrentProcess();
            threads.Set(self.Threads.Count);
            // The listing itself holds one open.
            open.Set(Directory.EnumerateFileSystemEntries("/proc/self/fd").Count() - 1);
            heap.Set(GC.GetTotalMemory(false));
            for (int generation = 0; generation <= GC.MaxGeneration; generation++)
                collections.WithLabels(generation.ToString(CultureInfo.InvariantCulture)).IncTo(GC.CollectionCount(generation));
        });
    }

    private static double? MaxOpenFiles()
    {
        string? line = File.ReadLines("/proc/self/limits").FirstOrDefault(l => l.StartsWith("Max open files", StringComparison.Ordinal));
        string? soft = line?.Split(' ', StringSplitOptions.RemoveEmptyEntries).ElementAtOrDefault(3);
        return double.TryParse(soft, CultureInfo.InvariantCulture, out double value) ? value : null;
    }
}
