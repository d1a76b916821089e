"""Four squares: red, green, blue, and a grey of 100, of 8 pixels each; one file a kind."""
import numpy as np, io, zlib, struct
from PIL import Image, ImageCms, TiffImagePlugin
import sys
out=sys.argv[1]+"/"
q=np.zeros((16,16,3),np.uint8); q[:8,:8]=(220,30,40); q[:8,8:]=(20,180,60); q[8:,:8]=(30,50,200); q[8:,8:]=(100,100,100)
im=Image.fromarray(q)
im.save(out+"gif.gif", save_all=True, append_images=[Image.new("RGB",(16,16),(255,255,255))], duration=100)
im.save(out+"lzw.tiff", compression="tiff_lzw")
im.convert("CMYK").save(out+"cmyk.tiff", compression="tiff_deflate")
im.quantize(8).save(out+"palette.png")
im.save(out+"bmp.bmp")
im.convert("CMYK").save(out+"cmyk.jpg", quality=95)
im.convert("L").save(out+"grey.jpg", quality=95)
la=Image.merge("LA",[im.convert("L"),Image.fromarray(np.tile(np.array([255]*8+[0]*8,np.uint8),(16,1)))]); la.save(out+"grey-alpha.png")
def png16(arr,ct):
    h,w=arr.shape[:2]; raw=b"".join(b"\0"+arr[y].astype(">u2").tobytes() for y in range(h))
    ch=lambda k,d: struct.pack(">I",len(d))+k+d+struct.pack(">I",zlib.crc32(k+d))
    return b"\x89PNG\r\n\x1a\n"+ch(b"IHDR",struct.pack(">IIBBBBB",w,h,16,ct,0,0,0))+ch(b"IDAT",zlib.compress(raw))+ch(b"IEND",b"")
open(out+"16-bit.png","wb").write(png16(q.astype(np.uint32)*257,2))
Image.fromarray((np.asarray(im.convert("L")).astype(np.uint16)*257)).save(out+"16-bit-grey.tiff")
# a profile with wide primaries (red and green exchanged would be too plain): linear light with sRGB's primaries
def s15(x): return struct.pack(">i",round(x*65536))
def xyz(a): return b"XYZ \0\0\0\0"+b"".join(map(s15,a))
def curv(g): return b"curv\0\0\0\0"+struct.pack(">IH",1,round(g*256))+b"\0\0"
def desc(t): b=t.encode(); return b"mluc\0\0\0\0"+struct.pack(">II",1,12)+b"enUS"+struct.pack(">II",len(b)*2,28)+t.encode("utf-16-be")
def profile(space,tags):
    body=b""; table=struct.pack(">I",len(tags)); at=128+4+12*len(tags)
    for k,d in tags:
        d+=b"\0"*(-len(d)%4); table+=k+struct.pack(">II",at+len(body),len(d)); body+=d
    head=struct.pack(">I4sI4s4s4s",at+len(body),b"\0\0\0\0",0x04000000,b"mntr",space,b"XYZ ")+struct.pack(">6H",2020,1,1,0,0,0)+b"acsp"+b"\0"*28+b"".join(map(s15,(0.9642,1,0.8249)))+b"\0"*48
    return head+table+body
w=xyz((0.9642,1,0.8249))
linear=profile(b"RGB ",[(b"desc",desc("linear")),(b"cprt",desc("none")),(b"wtpt",w),(b"rXYZ",xyz((0.43607,0.22249,0.01392))),(b"gXYZ",xyz((0.38515,0.71687,0.09708))),(b"bXYZ",xyz((0.14307,0.06061,0.71410))),(b"rTRC",curv(1)),(b"gTRC",curv(1)),(b"bTRC",curv(1))])
grey=profile(b"GRAY",[(b"desc",desc("linear grey")),(b"cprt",desc("none")),(b"wtpt",w),(b"kTRC",curv(1))])
im.save(out+"linear.png", icc_profile=linear)
im.save(out+"linear.jpg", quality=95, subsampling=0, icc_profile=linear)
im.convert("L").save(out+"linear-grey.png", icc_profile=grey)
srgb=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
im.save(out+"srgb.png", icc_profile=srgb)
im.save(out+"broken-profile.png", icc_profile=linear[:200]+b"\xff"*60)
sr=ImageCms.profileToProfile(im, ImageCms.ImageCmsProfile(io.BytesIO(linear)), ImageCms.createProfile("sRGB"))
print("linear to sRGB", [sr.getpixel(p) for p in ((4,4),(12,4),(4,12),(12,12))])
print("grey", [im.convert("L").getpixel(p) for p in ((4,4),(12,4),(4,12),(12,12))])
print("cmyk jpg", [Image.open(out+"cmyk.jpg").convert("RGB").getpixel(p) for p in ((4,4),(12,4),(4,12),(12,12))])
try: im.save(out+"avif.avif", quality=95, subsampling="4:4:4")
except Exception as e: print(e)
