using System.Diagnostics;
using System.Text.RegularExpressions;
using PciOperator.Testing;

namespace PciOperator.Tests.Monitoring;

/// <summary>What the dashboard shows of the lab, by a real Prometheus. <c>make screenshots</c> writes the picture of docs/monitoring.md.</summary>
[Collection(MonitoringLab.Shared)]
public sealed partial class DashboardTests(MonitoringLab lab)
{
    private const string Chromium = "/usr/bin/chromium";

    [Fact]
    public async Task No_panel_is_empty_and_the_picture_shows_what_each_asks()
    {
        var names = Dashboard.Expressions().SelectMany(e => Metric().Matches(e)).Select(m => m.Value).ToHashSet();
        await using PrometheusServer prometheus = await PrometheusServer.StartAsync(
            lab.Looks,
            names.Contains,
            goesOn: name => name == "pcioperator_watch_cache_last_success_timestamp_seconds"
        );
        foreach (Panel panel in Dashboard.Panels())
        {
            foreach (Target target in panel.Targets)
            {
                // What a number is when there is nothing to count says nothing of whether there ever is something.
                string asked = target.Expression.Replace(" or vector(0)", "", StringComparison.Ordinal);
                IReadOnlyList<Series> answer = await prometheus.OverAsync(asked);
                Assert.True(
                    answer.Any(s => s.Points.Any(p => double.IsFinite(p.Value))),
                    $"'{panel.Title}' shows nothing whatever happens in the lab: {target.Expression}"
                );
                // Two lines of one name can't be told from each other, and one without a name says nothing.
                IEnumerable<string> lines = panel.Type == "timeseries" ? answer.Select(s => target.Name(s.Labels)) : [];
                Assert.Equal(lines, lines.Distinct().Where(n => n.Trim(' ', ':').Length > 0));
            }
        }

        string page = await new DashboardPicture(prometheus).DrawAsync();
        Assert.All(Dashboard.Panels(), p => Assert.Contains($"<h2>{p.Title}</h2>", page, StringComparison.Ordinal));
        if (Environment.GetEnvironmentVariable("PCI_SCREENSHOTS") is { Length: > 0 } folder)
            await PictureAsync(page, Path.Combine(folder, "dashboard.png"));
    }

    private static async Task PictureAsync(string page, string to)
    {
        if (!File.Exists(Chromium))
            Requirement.IsMissing("No Chromium: tests/browser/install-packages installs Debian's chromium and chromium-driver (as root).");
        Directory.CreateDirectory(Path.GetDirectoryName(to)!);
        DirectoryInfo folder = Directory.CreateTempSubdirectory("dashboard-");
        try
        {
            string file = Path.Combine(folder.FullName, "dashboard.html");
            await File.WriteAllTextAsync(file, page);
            var start = new ProcessStartInfo(
                Chromium,
                [
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--hide-scrollbars",
                    $"--user-data-dir={folder.FullName}/profile",
                    $"--window-size={DashboardPicture.Width},{DashboardPicture.Height}",
                    $"--screenshot={to}",
                    $"file://{file}",
                ]
            )
            {
                RedirectStandardError = true,
            };
            using Process browser = Process.Start(start)!;
            string said = await browser.StandardError.ReadToEndAsync();
            await browser.WaitForExitAsync();
            Assert.True(File.Exists(to), said);
            Assert.InRange(new FileInfo(to).Length, 20_000, 200_000);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [GeneratedRegex("[a-z]+_[a-z_]+")]
    private static partial Regex Metric();
}
