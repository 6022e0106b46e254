using System.Globalization;
using OpenQA.Selenium;
using OpenQA.Selenium.Chrome;
using PciOperator.Testing;

namespace PciOperator.Cli.Tests.Ui;

/// <summary>A headless Chromium with a profile of its own.</summary>
internal sealed class Browser : IDisposable
{
    private const string Chromium = "/usr/bin/chromium";
    private const string Driver = "/usr/bin/chromedriver";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string _profile = Directory.CreateTempSubdirectory("chromium-").FullName;
    private readonly ChromeDriverService _service;
    private readonly ChromeDriver _driver;

    /// <summary>Starts it.</summary>
    /// <param name="width">The window's, in CSS pixels.</param>
    /// <param name="height">The window's.</param>
    /// <param name="dark">Whether the person likes dark colours.</param>
    public Browser(int width = 1280, int height = 900, bool dark = false)
    {
        if (!File.Exists(Chromium) || !File.Exists(Driver))
            Requirement.IsMissing("No Chromium: tests/browser/install-packages installs Debian's chromium and chromium-driver (as root).");
        var options = new ChromeOptions { BinaryLocation = Chromium };
        options.AddArguments(
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            $"--user-data-dir={_profile}"
        );
        options.SetLoggingPreference(LogType.Browser, LogLevel.All);
        _service = ChromeDriverService.CreateDefaultService(Path.GetDirectoryName(Driver), Path.GetFileName(Driver));
        _service.SuppressInitialDiagnosticInformation = true;
        _driver = new ChromeDriver(_service, options, Patience);
        Cdp(
            "Emulation.setDeviceMetricsOverride",
            new()
            {
                ["width"] = width,
                ["height"] = height,
                ["deviceScaleFactor"] = 1,
                ["mobile"] = false,
            }
        );
        Cdp(
            "Emulation.setEmulatedMedia",
            new()
            {
                ["features"] = new object[]
                {
                    new Dictionary<string, object?> { ["name"] = "prefers-color-scheme", ["value"] = dark ? "dark" : "light" },
                },
            }
        );
    }

    /// <summary>The page's title.</summary>
    public string Title => _driver.Title;

    /// <summary>Goes to an address.</summary>
    public void Open(string address) => _driver.Navigate().GoToUrl(new Uri(address));

    /// <summary>Whether it reaches anything.</summary>
    public void SetOffline(bool offline) =>
        Cdp(
            "Network.emulateNetworkConditions",
            new()
            {
                ["offline"] = offline,
                ["latency"] = 0,
                ["downloadThroughput"] = -1,
                ["uploadThroughput"] = -1,
            }
        );

    /// <summary>The text of an element as a person sees it; empty where there is none.</summary>
    public string Text(string css = "body") => (string)Run("return document.querySelector(arguments[0])?.innerText ?? ''", css)!;

    /// <summary>Runs a function's body in the page.</summary>
    public object? Run(string script, params object[] arguments) => _driver.ExecuteScript(script, arguments);

    /// <summary>A number that a function's body gives.</summary>
    public double Number(string script, params object[] arguments) =>
        Convert.ToDouble(Run(script, arguments), CultureInfo.InvariantCulture);

    /// <summary>Presses keys, one after the other, where the focus is.</summary>
    public void Press(params string[] keys)
    {
        foreach (string key in keys)
            _driver.SwitchTo().ActiveElement().SendKeys(key);
    }

    /// <summary>Waits until a part of the page has a text.</summary>
    public Task UntilTextAsync(string css, string text) =>
        UntilAsync(() => Text(css).Contains(text, StringComparison.Ordinal), () => $"no '{text}' in: {Text(css)}");

    /// <summary>Waits until something holds.</summary>
    public async Task UntilAsync(Func<bool> holds, Func<string>? otherwise = null)
    {
        DateTime end = DateTime.UtcNow + Patience;
        while (!holds())
        {
            Assert.True(DateTime.UtcNow < end, otherwise?.Invoke() ?? Text());
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>A picture of what the window shows.</summary>
    public byte[] Picture() => _driver.GetScreenshot().AsByteArray;

    /// <summary>What the page complained of: errors of scripts, and what the policy refused.</summary>
    public IReadOnlyList<string> Complaints() =>
        [.. _driver.Manage().Logs.GetLog(LogType.Browser).Where(l => l.Level >= LogLevel.Warning).Select(l => l.Message)];

    public void Dispose()
    {
        _driver.Quit();
        _driver.Dispose();
        _service.Dispose();
        Directory.Delete(_profile, recursive: true);
    }

    private void Cdp(string command, Dictionary<string, object?> parameters) => _driver.ExecuteCdpCommand(command, parameters);
}
