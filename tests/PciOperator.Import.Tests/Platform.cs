using System.Runtime.Versioning;

// As the program is that they run.
[assembly: SupportedOSPlatform("linux")]
[assembly: SupportedOSPlatform("macos")]
