using System.ComponentModel.DataAnnotations;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace PciOperator.AotProof;

/// <summary>The generic host as a program of ours would use it: an empty builder, one hosted service, options validated at start, one health check.</summary>
internal static class GenericHost
{
    /// <summary>Its lifetime alone: one hosted service, nothing else.</summary>
    /// <returns>0, the exit code.</returns>
    public static async Task<int> RunLifetimeAsync()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new() { ContentRootPath = AppContext.BaseDirectory });
        builder.Services.AddHostedService<Work>();
        using IHost host = builder.Build();
        await host.StartAsync();
        int code = Cost.Print("lifetime", Cost.Age(), "one hosted service");
        await host.StopAsync();
        return code;
    }

    /// <summary>Starts, asks for health, prints what it cost, and stops.</summary>
    /// <returns>The exit code: 0 when the program was told to be healthy.</returns>
    public static async Task<int> RunAsync()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new() { ContentRootPath = AppContext.BaseDirectory });
        builder.Services.AddSingleton<IValidateOptions<Settings>, SettingsValidator>();
        builder.Services.AddOptions<Settings>().Configure(o => o.Node = "node-1").ValidateOnStart();
        builder.Services.AddHostedService<Work>();
        builder.Services.AddLogging();
        builder.Services.AddHealthChecks().AddCheck("work", () => HealthCheckResult.Healthy());
        using IHost host = builder.Build();
        await host.StartAsync();
        HealthReport report = await host.Services.GetRequiredService<HealthCheckService>().CheckHealthAsync();
        int code = Cost.Print("host", Cost.Age(), $"health {report.Status}");
        await host.StopAsync();
        return report.Status == HealthStatus.Healthy ? code : 1;
    }

    private sealed class Work : BackgroundService
    {
        protected override Task ExecuteAsync(CancellationToken stoppingToken) => Task.Delay(Timeout.Infinite, stoppingToken);
    }

    internal sealed class Settings
    {
        [Required]
        public string Node { get; set; } = "";
    }

    private sealed class SettingsValidator : IValidateOptions<Settings>
    {
        public ValidateOptionsResult Validate(string? name, Settings options) =>
            options.Node.Length > 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail("a program needs a node");
    }
}
